// Which tokens of the rule `bpe` begin a word, and which make it longer.
//
// A word is a piece of the rule (see byte_pairs.hpp) without the space before it: letters, also with an apostrophe and
// more letters; digits; marks. White space is no word.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text.hpp"
#include "tokenization.hpp"

namespace lmtool {

// What a word is after its last token: that decides which tokens make it longer. kApostrophe: letters and an
// apostrophe; letters may follow, else it is a mark after the word. kSpace: the space before a word.
enum Kind : std::uint8_t { kNothing, kLetters, kTail, kApostrophe, kDigits, kMarks, kSpace, kKinds };

// The kind of a word after each token, kNothing for tokens that do not fit.
using Kinds = std::vector<Kind>;

// The tables of a vocabulary, which must outlive them. They do not change.
class TokenTable final {
 public:
  explicit TokenTable(const Vocabulary& vocabulary)
      : vocabulary_(vocabulary), apostrophe_(static_cast<std::size_t>(vocabulary.id("'"))) {
    for (std::size_t id = 0; id < vocabulary.size(); ++id) data_.push_back(vocabulary.bytes(id));
    for (std::size_t id = 0; id < data_.size(); ++id) firsts_.push_back(first(id));
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
      for (std::size_t id = 0; id < data_.size(); ++id) {
        begins_[kind].push_back(begins(Kind(kind), id) ? firsts_[id] : kNothing);
        moves_[kind].push_back(longer(Kind(kind), id));
        if (!is_longer(Kind(kind), data_[id]) && !(kind == kLetters && id == apostrophe_)) ends_[kind].push_back(id);
      }
    }
    letters_only_ = moves_[kLetters];
    letters_only_[apostrophe_] = kNothing;
  }

  const std::string& data(std::size_t id) const { return data_[id]; }
  std::size_t apostrophe() const { return apostrophe_; }
  const Kinds& firsts() const { return firsts_; }                        // of words
  const Kinds& begins(Kind before) const { return begins_[before]; }     // of words after a text that ends with a kind
  const Kinds& moves(Kind kind) const { return moves_[kind]; }           // that make a word of this kind longer
  const Kinds& letters_only() const { return letters_only_; }            // moves(kLetters) without the apostrophe
  // Ids of the tokens that do not make a word of this kind longer; for letters without the apostrophe.
  const std::vector<std::size_t>& ends(Kind kind) const { return ends_[kind]; }

  // What a text ends with after this token, whatever stands before it.
  Kind kind_after(std::size_t id) const {
    if (is_apostrophe_and_letters(data_[id])) return kTail;
    return firsts_[id] == kSpace ? kNothing : firsts_[id];
  }

  // Whether the rule writes these two neighbours in a piece so, and not with other tokens.
  bool follows(std::size_t left, std::size_t right) const {
    return vocabulary_.is_subword({left, right}, data_[left] + data_[right]);
  }

 private:
  static bool is_letter(char byte) {
    return number_of(byte) >= 0x80 || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
  }
  static bool is_number(char byte) { return is_digit(number_of(byte)); }
  static bool is_mark(char byte) {
    return number_of(byte) > 0x20 && number_of(byte) < 0x7F && !is_letter(byte) && !is_number(byte);
  }

  template <typename Fits>
  static bool all(std::string_view data, Fits fits) {
    return !data.empty() && std::all_of(data.begin(), data.end(), fits);
  }

  static bool is_spaced(std::string_view data) { return !data.empty() && data[0] == ' '; }
  static bool is_apostrophe_and_letters(std::string_view data) {
    return data.size() > 1 && data[0] == '\'' && all(data.substr(1), is_letter);
  }
  static bool is_in_word(Kind kind) { return kind == kLetters || kind == kTail || kind == kApostrophe; }

  static Kind form(std::string_view data) {
    if (data == " ") return kSpace;
    if (is_spaced(data)) data.remove_prefix(1);
    if (all(data, is_letter)) return kLetters;
    if (all(data, is_number)) return kDigits;
    if (all(data, is_mark)) return kMarks;
    const std::size_t letters =
        static_cast<std::size_t>(std::find_if_not(data.begin(), data.end(), is_letter) - data.begin());
    if (letters == 0 || data[letters] != '\'') return kNothing;
    if (letters + 1 == data.size()) return kApostrophe;
    return is_apostrophe_and_letters(data.substr(letters)) ? kTail : kNothing;
  }

  // Whether a token that begins with these bytes makes a word longer; an apostrophe alone may.
  static bool is_longer(Kind kind, std::string_view data) {
    if (kind == kNothing || data.empty()) return false;
    if (kind == kDigits) return is_number(data[0]);
    if (kind == kMarks) return is_mark(data[0]);
    if (kind == kSpace) return is_letter(data[0]) || is_number(data[0]) || is_mark(data[0]);
    if (kind == kLetters && data[0] == '\'') return data.size() > 1 && is_letter(data[1]);
    return is_letter(data[0]);
  }

  Kind first(std::size_t id) const {
    const Kind kind = form(data_[id]);
    return kind != kNothing && vocabulary_.is_subword({id}, data_[id]) ? kind : kNothing;
  }

  // After white space a word begins without a space; else with one, or where another kind of word begins.
  bool begins(Kind kind, std::size_t id) const {
    const bool spaced = is_spaced(data_[id]);
    if (kind == kNothing || kind == kSpace) return !spaced;
    if (kind == kDigits || kind == kMarks) return spaced || firsts_[id] != kind;
    return spaced || !(is_in_word(firsts_[id]) || (kind == kApostrophe && firsts_[id] == kMarks));
  }

  // The kind of a word that a token makes longer; a token with a space makes none longer.
  Kind longer(Kind kind, std::size_t id) const {
    const Kind plain = is_spaced(data_[id]) ? kNothing : firsts_[id];
    if (kind == kSpace) return plain;
    if (kind == kDigits || kind == kMarks) return plain == kind ? kind : kNothing;
    if (kind == kTail || kind == kApostrophe) return plain == kLetters ? kTail : kNothing;
    if (kind == kNothing) return kNothing;
    if (id == apostrophe_) return kApostrophe;
    if (is_apostrophe_and_letters(data_[id])) return kTail;
    return is_in_word(plain) ? plain : kNothing;
  }

  const Vocabulary& vocabulary_;
  std::size_t apostrophe_;
  std::vector<std::string> data_;  // each token's bytes; none for the unknown token
  Kinds firsts_;
  std::array<Kinds, kKinds> begins_;
  std::array<Kinds, kKinds> moves_;
  Kinds letters_only_;
  std::array<std::vector<std::size_t>, kKinds> ends_;
};

}  // namespace lmtool
