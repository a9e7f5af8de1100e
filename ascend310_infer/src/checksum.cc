#include "inc/checksum.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "inc/failure.h"

namespace fs = std::filesystem;

namespace {

constexpr size_t kBlock = 1 << 20;
constexpr int kBytesAtOnce = 8;
using Tables = std::array<std::array<uint32_t, 256>, kBytesAtOnce>;

// Table k holds what a byte does to the checksum when k bytes follow it (CRC-32 of zlib, polynomial 0xEDB88320).
Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320U : 0U);
    }
    tables[0][byte] = crc;
  }
  for (int k = 1; k < kBytesAtOnce; ++k) {
    for (int byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

uint32_t Continue(uint32_t crc, const std::vector<unsigned char> &block, size_t size) {
  static const Tables tables = MakeTables();
  size_t i = 0;
  for (; i + kBytesAtOnce <= size; i += kBytesAtOnce) {
    uint32_t next = 0;
    for (int k = 0; k < kBytesAtOnce; ++k) {
      const uint32_t folded = k < 4 ? (crc >> (8 * k)) & 0xFF : 0;
      next ^= tables[kBytesAtOnce - 1 - k][block[i + k] ^ folded];
    }
    crc = next;
  }
  for (; i < size; ++i) {
    crc = (crc >> 8) ^ tables[0][(crc ^ block[i]) & 0xFF];
  }
  return crc;
}

// Eight hexadecimal digits, as Python's `f"{zlib.crc32(content):08x}"`.
std::string Checksum(const fs::path &path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<unsigned char> block(kBlock);
  uint32_t crc = 0xFFFFFFFFU;
  while (file.read(reinterpret_cast<char *>(block.data()), kBlock) || file.gcount() > 0) {
    crc = Continue(crc, block, static_cast<size_t>(file.gcount()));
  }
  if (!file.eof()) {
    throw Failure(path.string() + ": cannot read this file: " + std::strerror(errno));
  }
  char text[9];
  std::snprintf(text, sizeof(text), "%08x", ~crc);
  return text;
}

// The string that begins with the quotation mark at `*at`; moves `*at` behind its end.
std::string TakeString(const std::string &json, size_t *at) {
  std::string text;
  for (++*at; *at < json.size() && json[*at] != '"'; ++*at) {
    if (json[*at] == '\\' && *at + 1 < json.size()) {
      ++*at;
    }
    text += json[*at];
  }
  ++*at;
  return text;
}

void Verify(const fs::path &path, const std::string &expected, const std::string &model_path) {
  if (Checksum(path) != expected) {
    throw Failure("--model_path: " + model_path + " is damaged: " + path.filename().string() +
                  " does not match its checksum; export it anew");
  }
}

}  // namespace

void VerifyModel(const std::string &model_path) {
  if (!fs::is_regular_file(model_path)) {
    return;  // the network will tell
  }
  std::ifstream file(fs::path(model_path).replace_extension(".json"), std::ios::binary);
  const std::string json{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  // export.py writes these two first.
  const std::string crc_key = "\"crc32\": ", further_key = "\"further_files\": {";
  size_t at = json.find(crc_key);
  if (at == std::string::npos) {
    return;
  }
  at += crc_key.size();
  Verify(model_path, TakeString(json, &at), model_path);
  const size_t further = json.find(further_key, at);
  if (further == std::string::npos) {
    return;
  }
  at = further + further_key.size();
  const size_t end = json.find('}', at);
  while ((at = json.find('"', at)) < end) {
    const std::string name = TakeString(json, &at);
    at = json.find('"', at);
    Verify(fs::path(model_path).parent_path() / name, TakeString(json, &at), model_path);
  }
}
