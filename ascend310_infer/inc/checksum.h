// Checksums of the files of a model.
#ifndef ASCEND310_INFER_INC_CHECKSUM_H_
#define ASCEND310_INFER_INC_CHECKSUM_H_

#include <string>

// Compares a model, and the files that belong to it, with the checksums in the description that export.py wrote beside
// it. What has no description, or one without checksums, is taken as it is. Throws Failure.
void VerifyModel(const std::string &model_path);

#endif  // ASCEND310_INFER_INC_CHECKSUM_H_
