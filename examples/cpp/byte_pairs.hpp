// The rule `bpe`: text is cut into pieces, and the bytes of a piece are merged pair by pair.
//
// Bytes are written as characters: those that are printable in Latin-1 stand for themselves, the others, in order, are
// U+0100, U+0101, ... A space is U+0120, the newline U+010A.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "text.hpp"

namespace lmtool {

// Index = byte: its code point.
inline const std::array<char32_t, 256>& byte_alphabet() {
  static const std::array<char32_t, 256> kAlphabet = [] {
    std::array<char32_t, 256> found{};
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      found[byte] = printable ? byte : next++;
    }
    return found;
  }();
  return kAlphabet;
}

inline std::string token_of_byte(unsigned char byte) {
  std::string token;
  append_utf8(token, byte_alphabet()[byte]);
  return token;
}

// The bytes of a token; a code point outside the alphabet is a question mark.
inline std::string bytes_of(std::string_view token) {
  const auto& alphabet = byte_alphabet();
  std::string bytes;
  for (const char32_t code_point : decode(token, "a token")) {
    const auto place = std::find(alphabet.begin(), alphabet.end(), code_point);
    bytes.push_back(place == alphabet.end() ? '?' : static_cast<char>(place - alphabet.begin()));
  }
  return bytes;
}

// A piece has 32 letters, digits, marks, spaces or controls at most.
class Pieces final {
 public:
  using Place = CodePoints::const_iterator;

  // The end of the piece that begins at `place`.
  static Place end(Place place, Place end) {
    const Place first = *place == ' ' ? place + 1 : place;
    if (first != end && is_letter(*first)) return word_end(first, end);
    for (const auto kind : {is_digit, is_mark}) {
      if (first != end && kind(*first)) return run_end(first, end, kind);
    }
    if (*place == '\n') return place + 1;
    if (*place != ' ') return run_end(place, end, is_control);
    const Place after = run_end(place, end, is_space);
    const bool gives_one = after != end && (is_letter(*after) || is_digit(*after) || is_mark(*after));
    return gives_one ? after - 1 : after;  // to the next piece
  }

 private:
  static constexpr std::ptrdiff_t kMost = 32;

  static bool is_space(char32_t code_point) { return code_point == ' '; }
  static bool is_letter(char32_t code_point) {
    return code_point >= 0x80 || (code_point >= 'A' && code_point <= 'Z') || (code_point >= 'a' && code_point <= 'z');
  }
  static bool is_control(char32_t code_point) {
    return (code_point < 0x20 && code_point != '\n') || code_point == 0x7F;
  }
  static bool is_mark(char32_t code_point) {
    return code_point > 0x20 && code_point < 0x7F && !is_letter(code_point) && !is_digit(code_point);
  }

  template <typename Kind>
  static Place run_end(Place place, Place end, Kind kind) {
    return std::find_if_not(place, place + std::min(kMost, end - place), kind);
  }

  static Place word_end(Place place, Place end) {
    const Place after = run_end(place, end, is_letter);
    const bool joined = end - after >= 2 && *after == '\'' && is_letter(*(after + 1));
    return joined ? run_end(after + 1, end, is_letter) : after;
  }
};

// Tokens of text by a list of merges. Threads may share an object.
class BytePairs final {
 public:
  // `merges`: `left right` each, the first to apply first. A Failure unless each joins two tokens that are there before
  // it; none makes the unknown token.
  BytePairs(const std::vector<std::string>& merges, const std::string& newline, const std::string& unknown) {
    for (unsigned byte = 0; byte < 256; ++byte) numbers_.emplace(added(token_of_byte(static_cast<unsigned char>(byte))));
    for (const std::string& merge : merges) add(merge, newline, unknown);
  }

  // Index = a token's number: the bytes, then what the merges make.
  const std::vector<std::string>& all() const { return tokens_; }

  // The tokens of the bytes of a piece; none for more bytes than a piece has.
  std::vector<std::string> tokens_of_piece(const std::string& bytes) const {
    std::vector<std::string> found;
    if (bytes.size() > kLongestPiece) return found;
    for (const std::size_t number : merged(bytes)) found.push_back(tokens_[number]);
    return found;
  }

  // The tokens of a text.
  std::vector<std::string> tokens(const CodePoints& text) const {
    std::vector<std::string> found;
    for (auto place = text.begin(); place != text.end();) {
      const auto end = Pieces::end(place, text.end());
      for (const std::size_t number : merged(utf8(place, end))) found.push_back(tokens_[number]);
      place = end;
    }
    return found;
  }

 private:
  static constexpr std::size_t kLongestPiece = 1 + 4 * 32 + 1 + 4 * 32;  // bytes: a space, letters, an apostrophe, letters
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

  std::pair<std::string, std::size_t> added(const std::string& token) {
    tokens_.push_back(token);
    return {token, tokens_.size() - 1};
  }

  void add(const std::string& merge, const std::string& newline, const std::string& unknown) {
    const std::size_t space = merge.find(' ');
    const std::string left = merge.substr(0, space);
    const std::string right = space == std::string::npos ? "" : merge.substr(space + 1);
    const auto first = numbers_.find(left);
    const auto second = numbers_.find(right);
    const bool known = first != numbers_.end() && second != numbers_.end() && left != newline && right != newline;
    const std::size_t rank = results_.size();
    if (!known || left + right == unknown || !ranks_.emplace(pair(first->second, second->second), rank).second) {
      throw Failure("merge " + std::to_string(rank + 1) + " of its tokenization is '" + merge +
                    "', expected two tokens with a space between them, each a byte or the result of a merge before it, "
                    "no newline, no pair twice");
    }
    const auto made = numbers_.find(left + right);
    results_.push_back(made == numbers_.end() ? numbers_.emplace(added(left + right)).first->second : made->second);
  }

  // Joins the two neighbours of the lowest rank, the leftmost ones first, until none are in the list.
  std::vector<std::size_t> merged(const std::string& piece) const {
    std::vector<std::size_t> numbers;
    for (const char byte : piece) numbers.push_back(number_of(byte));
    std::vector<std::size_t> ranks(numbers.size(), kNone);  // of each token with its right neighbour
    const auto rank_at = [&](std::size_t at) {
      ranks[at] = at + 1 < numbers.size() ? rank(numbers[at], numbers[at + 1]) : kNone;
    };
    for (std::size_t at = 0; at < numbers.size(); ++at) rank_at(at);
    while (true) {
      const auto lowest = std::min_element(ranks.begin(), ranks.end());
      if (*lowest == kNone) return numbers;
      const auto at = static_cast<std::size_t>(lowest - ranks.begin());
      numbers[at] = results_[*lowest];
      numbers.erase(numbers.begin() + static_cast<std::ptrdiff_t>(at) + 1);
      ranks.erase(lowest + 1);
      if (at > 0) rank_at(at - 1);
      rank_at(at);
    }
  }

  static std::uint64_t pair(std::size_t left, std::size_t right) { return std::uint64_t{left} << 32 | right; }

  std::size_t rank(std::size_t left, std::size_t right) const {
    const auto found = ranks_.find(pair(left, right));
    return found == ranks_.end() ? kNone : found->second;
  }

  std::vector<std::string> tokens_;
  std::unordered_map<std::string, std::size_t> numbers_;
  std::unordered_map<std::uint64_t, std::size_t> ranks_;
  std::vector<std::size_t> results_;
};

}  // namespace lmtool
