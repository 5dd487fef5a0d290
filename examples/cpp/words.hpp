// The rules `words` and `words-2`: prose in words, as in lmtool's runtime/words.py.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string_view>

#include "text.hpp"

namespace lmtool {

// White space as in Python's str.split and \s.
inline bool is_space(char32_t code_point) {
  return (code_point >= 0x09 && code_point <= 0x0D) || (code_point >= 0x1C && code_point <= 0x20) ||
         code_point == 0x85 || code_point == 0xA0 || code_point == 0x1680 ||
         (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x2028 || code_point == 0x2029 ||
         code_point == 0x202F || code_point == 0x205F || code_point == 0x3000;
}

// Whether `is_word` and `lower` support it: Latin-1, General Punctuation (which has no letters), white space.
inline bool is_classified(char32_t code_point) {
  return code_point <= 0xFF || (code_point >= 0x2000 && code_point <= 0x206F) || is_space(code_point);
}

// Python's \w, for classified code points.
inline bool is_word(char32_t code_point) {
  if (code_point < 0x80) return std::isalnum(static_cast<int>(code_point)) != 0 || code_point == '_';
  if (code_point >= 0xC0 && code_point <= 0xFF) return code_point != 0xD7 && code_point != 0xF7;
  constexpr std::u32string_view kOthers = U"\u00AA\u00B2\u00B3\u00B5\u00B9\u00BA\u00BC\u00BD\u00BE";
  return kOthers.find(code_point) != std::u32string_view::npos;
}

// Python's str.lower, for classified code points.
inline char32_t lower(char32_t code_point) {
  const bool latin1 = code_point >= 0xC0 && code_point <= 0xDE && code_point != 0xD7;
  return latin1 || (code_point >= 'A' && code_point <= 'Z') ? code_point + 0x20 : code_point;
}

inline bool is_one_of(char32_t code_point, std::u32string_view set) { return set.find(code_point) != std::u32string_view::npos; }

// The rule `words`, which older artifacts have.
struct Words final {
  using Place = CodePoints::const_iterator;

  static CodePoints folded(CodePoints text, const CodePoints&) {
    std::transform(text.begin(), text.end(), text.begin(), lower);
    return text;
  }

  // The end of the token that begins at `place`: a word or one mark.
  static Place token_end(Place, Place place, Place end) {
    auto after = std::find_if_not(place, end, is_word);
    if (after == place) return place + 1;
    while (end - after >= 2 && is_one_of(*after, U"'\u2019.-") && is_word(*(after + 1))) {
      after = std::find_if_not(after + 1, end, is_word);
    }
    return after;
  }
};

// The rule `words-2`, for classified code points.
struct Words2 final {
  using Place = CodePoints::const_iterator;
  static constexpr std::u32string_view kOpening = U"([{\u201C\u2018\u00AB\u2039\u00BF\u00A1";

  // Text in the form of the tokens: lower case; invisible code points vanish; apostrophes, quotation marks and hyphens of
  // all forms are one; quotation marks that open are U+201C and U+2018; the end of a sentence is a newline.
  static CodePoints folded(const CodePoints& text, const CodePoints& end_of_sentence) {
    CodePoints found;
    for (char32_t code_point : text) {
      if (is_invisible(code_point)) continue;
      if (is_one_of(code_point, U"\u2018\u2019\u201A\u201B")) code_point = '\'';
      if (is_one_of(code_point, U"\u201C\u201D\u201E\u201F")) code_point = '"';
      if (code_point == 0x200B) code_point = ' ';
      if (code_point == 0x2011) code_point = '-';
      found.push_back(lower(code_point));
      const auto size = static_cast<std::ptrdiff_t>(end_of_sentence.size());
      if (found.end() - found.begin() >= size && std::equal(found.end() - size, found.end(), end_of_sentence.begin())) {
        found.erase(found.end() - size, found.end());
        found.push_back('\n');
      }
    }
    for (auto place = found.begin(); place != found.end(); ++place) {
      const bool opens = place == found.begin() || is_space(*(place - 1)) || is_one_of(*(place - 1), kOpening);
      if (*place == '"' && opens) *place = 0x201C;
      if (*place == '\'' && opens) *place = 0x2018;
    }
    return found;
  }

  // The end of the token that begins at `place`: a word, also with a sign before it, operators, or another mark.
  static Place token_end(Place begin, Place place, Place end) {
    if (const auto after = word_end(place, end); after != place) return after;
    if (place == begin || is_space(*(place - 1)) || is_one_of(*(place - 1), kOpening)) {
      for (const std::u32string_view sign :
           {U"--", U"-", U"@", U"#", U"+", U"/", U"~/", U"./", U"../", U"~./", U"~", U"."}) {
        const auto size = static_cast<std::ptrdiff_t>(sign.size());
        if (end - place <= size || !std::equal(sign.begin(), sign.end(), place)) continue;
        if (const auto after = word_end(place + size, end); after != place + size) return after;
      }
    }
    auto after = place + 1;
    if (is_one_of(*place, U"-=*#~+&|<>/^")) {
      after = std::find_if_not(after, end, [](char32_t mark) { return is_one_of(mark, U"-=*#~+&|>/^"); });
      if (after - place >= 2) return after;
    }
    while (is_extended(*place) && end - after >= 2 && *after == kJoiner && is_extended(*(after + 1))) after += 2;
    return after;
  }

 private:
  static constexpr char32_t kNonJoiner = 0x200C;
  static constexpr char32_t kJoiner = 0x200D;

  static bool is_invisible(char32_t code_point) {
    return is_one_of(code_point, U"\u00AD\u200E\u200F\u2060") || (code_point >= 0x202A && code_point <= 0x202E) ||
           (code_point >= 0x2066 && code_point <= 0x2069);
  }

  // A mark that joiners may connect with another one.
  static bool is_extended(char32_t code_point) {
    return !is_word(code_point) && !is_space(code_point) && !is_one_of(code_point, kOpening) &&
           !is_one_of(code_point, U"\"'");
  }

  static Place letters_end(Place place, Place end) {
    if (place == end || !is_word(*place)) return place;
    return std::find_if_not(
        place, end, [](char32_t letter) { return is_word(letter) || letter == kNonJoiner || letter == kJoiner; });
  }

  static bool joins(Place place) {
    if (is_one_of(*place, U"'.-/@&+\u00B7")) return true;
    return is_one_of(*place, U",:\u2013") && is_digit(*(place - 1)) && is_digit(*(place + 1));
  }

  static Place word_end(Place place, Place end) {
    auto after = letters_end(place, end);
    if (after == place) return place;
    while (end - after >= 2 && joins(after) && is_word(*(after + 1))) after = letters_end(after + 1, end);
    constexpr std::u32string_view kAddress = U"://";
    if (end - after < 4 || !std::equal(kAddress.begin(), kAddress.end(), after)) return after;
    const auto beyond = std::find_if(after + 3, end, [](char32_t letter) {
      return is_space(letter) || is_one_of(letter, U"\"\u201C\u2018<>");
    });
    for (auto last = beyond; last != after + 3; --last) {
      if (is_word(*(last - 1)) || *(last - 1) == '/') return last;
    }
    return after;
  }
};

}  // namespace lmtool
