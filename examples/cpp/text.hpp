// UTF-8 text: strict decoding, code points, escapes, and the error that a user can cause.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lmtool {

// An error that a user can cause: the message, and the exit code (1 failed, 2 wrong usage).
class Failure final : public std::runtime_error {
 public:
  explicit Failure(const std::string& message, int code = 1) : runtime_error(message), exit_code(code) {}
  const int exit_code;
};

using CodePoints = std::vector<char32_t>;

template <typename... Values>
inline std::string formatted(const char* format, Values... values) {
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

inline std::string shown(char32_t code_point) { return formatted("U+%04X", static_cast<unsigned>(code_point)); }

inline bool is_digit(char32_t code_point) { return code_point >= '0' && code_point <= '9'; }

inline unsigned number_of(char byte) { return static_cast<unsigned char>(byte); }

inline void append_utf8(std::string& text, char32_t code_point) {
  const auto put = [&text](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) return put(code_point);
  if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
  }
  put(0x80 | (code_point & 0x3F));
}

inline std::string utf8(CodePoints::const_iterator begin, CodePoints::const_iterator end) {
  std::string text;
  std::for_each(begin, end, [&text](char32_t code_point) { append_utf8(text, code_point); });
  return text;
}

// Length and lowest code point of the sequence that begins with this byte; length 0 if none does.
inline std::pair<std::size_t, char32_t> utf8_sequence(unsigned char first) {
  if (first < 0x80) return {1, 0};
  if (first < 0xC0) return {0, 0};
  if (first < 0xE0) return {2, 0x80};
  if (first < 0xF0) return {3, 0x800};
  return {first < 0xF8 ? 4 : 0, 0x10000};
}

// The code point at `start`, and the length of its sequence; length 0 if there is none.
inline std::pair<char32_t, std::size_t> decode_one(std::string_view bytes, std::size_t start) {
  const auto first = static_cast<unsigned char>(bytes[start]);
  const auto [length, lowest] = utf8_sequence(first);
  if (length == 0 || start + length > bytes.size()) return {0, 0};
  char32_t code_point = length == 1 ? first : first & (0x7Fu >> length);
  for (std::size_t index = 1; index < length; ++index) {
    const auto byte = static_cast<unsigned char>(bytes[start + index]);
    if ((byte & 0xC0) != 0x80) return {0, 0};
    code_point = code_point << 6 | (byte & 0x3F);
  }
  const bool surrogate = code_point >= 0xD800 && code_point < 0xE000;
  if (code_point < lowest || surrogate || code_point > 0x10FFFF) return {0, 0};
  return {code_point, length};
}

// Decodes strict UTF-8; messages call the bytes `name`.
inline CodePoints decode(std::string_view bytes, const std::string& name) {
  CodePoints found;
  found.reserve(bytes.size());
  for (std::size_t start = 0; start < bytes.size();) {
    const auto [code_point, length] = decode_one(bytes, start);
    if (length == 0) {
      throw Failure(name + " is not UTF-8 text: byte " + formatted("0x%02x", number_of(bytes[start])) + " at offset " +
                    std::to_string(start) + "; convert it, for example with: iconv -f latin1 -t utf-8");
    }
    found.push_back(code_point);
    start += length;
  }
  return found;
}

// The length of the invalid bytes at `start`: the longest beginning of a character, or one byte.
inline std::size_t broken_length(std::string_view bytes, std::size_t start) {
  const unsigned first = number_of(bytes[start]);
  if (first < 0xC2 || first > 0xF4) return 1;
  unsigned lowest = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  unsigned highest = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  const std::size_t longest = utf8_sequence(static_cast<unsigned char>(first)).first;
  std::size_t size = 1;
  while (size < longest && start + size < bytes.size()) {
    const unsigned byte = number_of(bytes[start + size]);
    if (byte < lowest || byte > highest) break;
    lowest = 0x80, highest = 0xBF;
    ++size;
  }
  return size;
}

// Bytes as UTF-8, with U+FFFD for invalid ones; `whole` becomes false then.
inline std::string repaired(std::string_view bytes, bool* whole = nullptr) {
  std::string text;
  for (std::size_t start = 0; start < bytes.size();) {
    const std::size_t length = decode_one(bytes, start).second;
    if (length > 0) {
      text += bytes.substr(start, length);
    } else {
      append_utf8(text, 0xFFFD);
      if (whole != nullptr) *whole = false;
    }
    start += length > 0 ? length : broken_length(bytes, start);
  }
  return text;
}

// One field of a line. Newlines, tabs and backslashes are escaped as in C, control characters as \x with their code
// point, and bytes that are not UTF-8 as \x with their value.
inline std::string escaped(std::string_view text) {
  std::string field;
  for (std::size_t start = 0; start < text.size();) {
    const auto [code_point, length] = decode_one(text, start);
    const std::size_t size = std::max<std::size_t>(length, 1);
    if (length == 0) {
      field += formatted("\\x%02x", number_of(text[start]));
    } else if (code_point == '\n') {
      field += "\\n";
    } else if (code_point == '\t') {
      field += "\\t";
    } else if (code_point == '\\') {
      field += "\\\\";
    } else if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0)) {
      field += formatted("\\x%02x", static_cast<unsigned>(code_point));
    } else {
      field += text.substr(start, size);
    }
    start += size;
  }
  return field;
}

}  // namespace lmtool
