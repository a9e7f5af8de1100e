"""Using what was trained: prediction on new texts, exported models, the surroundings of the C++ program."""
