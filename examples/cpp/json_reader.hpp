// A reader of the JSON in an artifact's metadata.
#pragma once

#include <cctype>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "text.hpp"

namespace lmtool {

// Reads the JSON of an artifact's metadata: lists of strings or numbers, and objects of these. The caller asks for the
// type that it expects next; any other is a Failure.
class JsonReader final {
 public:
  JsonReader(std::string_view text, std::string name) : text_(text), name_(std::move(name)) {}

  // Calls `read(key)` for each field; it must read the field's value.
  template <typename Read>
  void object(Read read) {
    sequence('{', '}', [&] {
      const std::string key = string();
      expect(':');
      read(key);
    });
  }

  // Calls `read()` for each item of a list; it must read the item.
  template <typename Read>
  void list(Read read) {
    sequence('[', ']', read);
  }

  std::string string() {
    expect('"');
    std::string found;
    while (true) {
      const char letter = next();
      if (letter == '"') return found;
      if (static_cast<unsigned char>(letter) < 0x20) fail("a control character in a string");
      if (letter == '\\') {
        escape(found);
      } else {
        found.push_back(letter);
      }
    }
  }

  // A whole number from `lowest`.
  std::int64_t whole(std::int64_t lowest) {
    const std::string_view digits = scalar();
    std::int64_t found = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), found);
    if (error != std::errc() || end != digits.data() + digits.size() || found < lowest) {
      fail("no whole number from " + std::to_string(lowest));
    }
    return found;
  }

  // Reads a value that is not needed.
  void skip() {
    std::size_t depth = 0;
    do {
      skip_space();
      const char first = peek();
      if (first == '"') {
        skip_string();
      } else if (first == '[' || first == '{') {
        ++depth, ++place_;
      } else if (depth > 0 && (first == ']' || first == '}')) {
        --depth, ++place_;
      } else if (depth > 0 && (first == ',' || first == ':')) {
        ++place_;
      } else {
        scalar();
      }
    } while (depth > 0);
  }

  void end() {
    skip_space();
    if (place_ != text_.size()) fail("something after the value");
  }

 private:
  [[noreturn]] void fail(const std::string& found) const {
    throw Failure(name_ + " is not the JSON that was expected: " + found + " at offset " + std::to_string(place_) +
                  " of " + std::to_string(text_.size()));
  }

  char peek() const { return place_ < text_.size() ? text_[place_] : '\0'; }

  char next() {
    if (place_ == text_.size()) fail("its end");
    return text_[place_++];
  }

  void skip_space() {
    while (place_ < text_.size() && std::string_view(" \t\r\n").find(text_[place_]) != std::string_view::npos) ++place_;
  }

  bool take(char wanted) {
    skip_space();
    if (peek() != wanted) return false;
    ++place_;
    return true;
  }

  void expect(char wanted) {
    if (!take(wanted)) fail(std::string("no '") + wanted + "'");
  }

  template <typename Read>
  void sequence(char open, char close, Read read) {
    expect(open);
    if (take(close)) return;
    do {
      read();
    } while (take(','));
    expect(close);
  }

  // A string that may hold halves of surrogate pairs.
  void skip_string() {
    expect('"');
    for (char letter = next(); letter != '"'; letter = next()) {
      if (static_cast<unsigned char>(letter) < 0x20) fail("a control character in a string");
      if (letter == '\\') next();
    }
  }

  // A number, true, false or null.
  std::string_view scalar() {
    skip_space();
    const std::size_t start = place_;
    while (place_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[place_])) != 0 ||
                                     std::string_view("+-.").find(text_[place_]) != std::string_view::npos)) {
      ++place_;
    }
    if (place_ == start) fail("no value");
    return text_.substr(start, place_ - start);
  }

  void escape(std::string& found) {
    const char letter = next();
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kLetters = "\"\\/\b\f\n\r\t";
    if (letter == 'u') return append_utf8(found, escaped_code_point());
    const std::size_t place = kNames.find(letter);
    if (place == std::string_view::npos) fail(std::string("the unknown escape \\") + letter);
    found.push_back(kLetters[place]);
  }

  // What follows \u: a code point of four digits, or a pair of surrogates.
  char32_t escaped_code_point() {
    const char32_t high = hexadecimal();
    if (high < 0xD800 || high >= 0xE000) return high;
    if (high >= 0xDC00 || next() != '\\' || next() != 'u') fail("half of a surrogate pair");
    const char32_t low = hexadecimal();
    if (low < 0xDC00 || low >= 0xE000) fail("half of a surrogate pair");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  char32_t hexadecimal() {
    unsigned found = 0;
    const std::string_view digits = text_.substr(place_, 4);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), found, 16);
    if (error != std::errc() || digits.size() != 4 || end != digits.data() + 4) fail("no four hexadecimal digits");
    place_ += 4;
    return found;
  }

  std::string_view text_;
  std::string name_;
  std::size_t place_ = 0;
};

}  // namespace lmtool
