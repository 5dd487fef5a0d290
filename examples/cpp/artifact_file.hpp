// The bytes of an artifact, and the hash that it declares.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <ios>
#include <string>
#include <string_view>
#include <vector>

#include "text.hpp"

namespace lmtool {

inline constexpr std::array<std::uint32_t, 64> kSha256 = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

using Digest = std::array<std::uint32_t, 8>;

inline std::uint32_t rotated(std::uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

// Adds 64 bytes to a SHA-256 (FIPS 180-4).
inline void hash_block(Digest& digest, const unsigned char* block) {
  std::array<std::uint32_t, 64> words{};
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t byte = 0; byte < 4; ++byte) words[i] = words[i] << 8 | block[4 * i + byte];
  }
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t a = words[i - 15];
    const std::uint32_t b = words[i - 2];
    words[i] = words[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + words[i - 7] +
               (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
  }
  auto [a, b, c, d, e, f, g, h] = digest;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t first =
        h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + kSha256[i] + words[i];
    const std::uint32_t second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
  }
  const Digest added = {a, b, c, d, e, f, g, h};
  std::transform(digest.begin(), digest.end(), added.begin(), digest.begin(), std::plus<>());
}

// SHA-256 as 64 hexadecimal digits.
inline std::string sha256(std::string_view data) {
  Digest digest = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const auto* bytes = reinterpret_cast<const unsigned char*>(data.data());
  const std::size_t whole = data.size() / 64 * 64;
  for (std::size_t start = 0; start < whole; start += 64) hash_block(digest, bytes + start);
  std::vector<unsigned char> rest(bytes + whole, bytes + data.size());
  rest.push_back(0x80);
  while (rest.size() % 64 != 56) rest.push_back(0);
  const std::uint64_t bits = std::uint64_t{data.size()} * 8;
  for (int shift = 56; shift >= 0; shift -= 8) rest.push_back(static_cast<unsigned char>(bits >> shift));
  for (std::size_t start = 0; start < rest.size(); start += 64) hash_block(digest, rest.data() + start);
  std::string digits;
  for (const std::uint32_t word : digest) digits += formatted("%08x", static_cast<unsigned>(word));
  return digits;
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string data;
  std::vector<char> block(1 << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0) {
    data.append(block.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (!file.eof()) throw Failure("it cannot be read; expected an lmtool artifact, as lmtool export writes it");
  return data;
}

// Checks the hash that the file declares; its own 64 digits count as zeros in it.
inline void check_hash(std::string& data) {
  constexpr std::string_view kEntry = "\x0a\x0dlmtool.sha256\x12\x40";  // as protobuf writes key and value
  const std::size_t entry = data.find(kEntry);
  const std::size_t start = entry + kEntry.size();
  if (entry == std::string::npos || start + 64 > data.size()) {
    throw Failure("it has no lmtool.sha256, so it was not exported by lmtool (use: lmtool export)");
  }
  const std::string declared = data.substr(start, 64);
  data.replace(start, 64, 64, '0');
  const std::string found = sha256(data);
  data.replace(start, 64, declared);
  if (found != declared) {
    throw Failure("it is damaged: its bytes hash to " + found.substr(0, 12) + "..., it declares " +
                  declared.substr(0, 12) + "...; copy or export it again");
  }
}

}  // namespace lmtool
