// An artifact's tokenization and vocabulary: a line of text to token ids, and tokens to text.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "byte_pairs.hpp"
#include "json_reader.hpp"
#include "text.hpp"
#include "words.hpp"

namespace lmtool {

// How a line becomes tokens; the rules are those of lmtool's runtime/tokenization.py.
struct Tokenization final {
  std::string rule;
  std::string unknown;
  std::string end_of_sentence;
  std::vector<std::string> merges;
  std::shared_ptr<const BytePairs> pairs;  // of the rule `bpe`

  // The tokens of a line without its newline; messages call the line `name`.
  std::vector<std::string> split(std::string_view line, const std::string& name) const {
    const CodePoints text = decode(line, name);
    if (rule == "characters") return split_characters(text);
    if (pairs) return pairs->tokens(text);
    if (rule == "whitespace") return split_at_white_space(text);
    require_classified(text, name);
    return rule == "words" ? split_words<Words>(text) : split_words<Words2>(text);
  }

  // The token that a newline becomes.
  std::string newline() const { return rule == "characters" ? "\n" : end_of_sentence; }

 private:
  static std::vector<std::string> split_characters(const CodePoints& text) {
    std::vector<std::string> tokens;
    for (auto place = text.begin(); place != text.end(); ++place) tokens.push_back(utf8(place, place + 1));
    return tokens;
  }

  static std::vector<std::string> split_at_white_space(const CodePoints& text) {
    std::vector<std::string> tokens;
    for (auto begin = std::find_if_not(text.begin(), text.end(), is_space); begin != text.end();) {
      const auto end = std::find_if(begin, text.end(), is_space);
      tokens.push_back(utf8(begin, end));
      begin = std::find_if_not(end, text.end(), is_space);
    }
    return tokens;
  }

  void require_classified(const CodePoints& text, const std::string& name) const {
    const auto strange = std::find_if_not(text.begin(), text.end(), is_classified);
    if (strange != text.end()) {
      throw Failure(name + " holds " + shown(*strange) + " as its code point " +
                    std::to_string(strange - text.begin() + 1) + "; for an artifact whose rule is `" + rule +
                    "` this program reads Latin-1 and General Punctuation (U+0000 to U+00FF, U+2000 to U+206F); use "
                    "lmtool's Python predictor for other text");
    }
  }

  template <typename Rule>
  std::vector<std::string> split_words(const CodePoints& line) const {
    const CodePoints end_of_line = decode(end_of_sentence, "the special token");
    const CodePoints text = Rule::folded(line, end_of_line);
    std::vector<std::string> tokens;
    for (auto place = text.cbegin(); place != text.cend();) {
      const auto special = special_end(place, text.cend());
      const auto end = special == place ? Rule::token_end(text.cbegin(), place, text.cend()) : special;
      if (*place == '\n') tokens.push_back(end_of_sentence);
      if (!is_space(*place)) tokens.push_back(utf8(place, end));
      place = end;
    }
    return tokens;
  }

  // The end of the special token at `place`; `place` where there is none.
  CodePoints::const_iterator special_end(CodePoints::const_iterator place, CodePoints::const_iterator end) const {
    for (const std::string& special : {unknown, end_of_sentence}) {
      const CodePoints wanted = decode(special, "the special token");
      const auto size = static_cast<std::ptrdiff_t>(wanted.size());
      if (end - place >= size && std::equal(wanted.begin(), wanted.end(), place)) return place + size;
    }
    return place;
  }
};

inline void check(Tokenization& found) {
  const std::string& rule = found.rule;
  if (rule != "whitespace" && rule != "words" && rule != "words-2" && rule != "characters" && rule != "bpe") {
    throw Failure("its tokenization rule is '" + rule + "', expected whitespace, words, words-2, characters or bpe");
  }
  if (rule != "bpe") {
    if (!found.merges.empty()) throw Failure("its tokenization rule " + rule + " has merges; only bpe has any");
    return;
  }
  const std::string newline = token_of_byte('\n');
  if (found.end_of_sentence != newline || found.unknown != "<unk>") {
    throw Failure("its special tokens are '" + found.end_of_sentence + "' and '" + found.unknown +
                  "', the rule bpe has '" + newline + "' and '<unk>'");
  }
  found.pairs = std::make_shared<const BytePairs>(found.merges, newline, found.unknown);
}

// Reads the object at the reader's place.
inline Tokenization read_tokenization(JsonReader& reader) {
  Tokenization found;
  const std::map<std::string, std::string*> fields = {
      {"rule", &found.rule}, {"unknown", &found.unknown}, {"end_of_sentence", &found.end_of_sentence}};
  reader.object([&](const std::string& key) {
    if (const auto field = fields.find(key); field != fields.end()) {
      *field->second = reader.string();
    } else if (key == "merges") {
      reader.list([&] { found.merges.push_back(reader.string()); });
    } else {
      reader.skip();
    }
  });
  check(found);
  return found;
}

inline Tokenization tokenization_of(const std::string& json) {
  JsonReader reader(json, "its metadata lmtool.tokenization");
  Tokenization found = read_tokenization(reader);
  reader.end();
  return found;
}

// The symbols of an unknown word's spelling: 256 bytes, and the end of the word.
constexpr double kSpellingSymbols = 257;

// Ids, int64 [tokens], and the natural log-probability of the spelling of the unknown words among them.
struct EncodedLine final {
  std::vector<std::int64_t> ids;
  double spelling = 0;
};

// The tokens (a token's index is its id), and the encoding of text as ids.
class Vocabulary final {
 public:
  Vocabulary(std::vector<std::string> tokens, Tokenization tokenization)
      : tokens_(std::move(tokens)), tokenization_(std::move(tokenization)) {
    for (std::size_t index = 0; index < tokens_.size(); ++index) {
      if (!ids_.emplace(tokens_[index], static_cast<std::int64_t>(index)).second) {
        throw Failure("its vocabulary holds '" + tokens_[index] + "' twice");
      }
    }
    unknown_id_ = special(tokenization_.unknown);
    end_of_sentence_id_ = special(tokenization_.end_of_sentence);
    if (tokenization_.pairs) check_subwords();
  }

  std::size_t size() const { return tokens_.size(); }
  const std::string& token(std::size_t id) const { return tokens_[id]; }

  // Whether tokens are parts of words, those of the rule `bpe`.
  bool has_parts() const { return tokenization_.pairs != nullptr; }

  // The bytes of a token of the rule `bpe`; none for the unknown token.
  std::string bytes(std::size_t id) const {
    return static_cast<std::int64_t>(id) == unknown_id_ ? "" : bytes_of(tokens_[id]);
  }

  // For `bpe`: whether a piece of these bytes is split into these tokens.
  bool is_subword(const std::vector<std::size_t>& ids, const std::string& bytes) const {
    const auto is_token = [this](const std::string& token, std::size_t id) { return token == tokens_[id]; };
    const std::vector<std::string> found = tokenization_.pairs->tokens_of_piece(bytes);
    return std::equal(found.begin(), found.end(), ids.begin(), ids.end(), is_token);
  }

  // The text of tokens, for the rules `bpe` and `characters`.
  std::string decode(const std::vector<std::int64_t>& ids) const {
    std::string found;
    for (const std::int64_t id : ids) {
      const std::string& token = tokens_.at(static_cast<std::size_t>(id));
      found += tokenization_.pairs ? bytes_of(token) : token;
    }
    return repaired(found);
  }

  std::int64_t unknown_id() const { return unknown_id_; }
  std::int64_t end_of_sentence_id() const { return end_of_sentence_id_; }
  std::int64_t newline_id() const { return id(tokenization_.newline()); }

  // The tokens of a line without its newline.
  EncodedLine encode(std::string_view line, const std::string& name) const {
    EncodedLine encoded;
    for (const std::string& token : tokenization_.split(line, name)) {
      encoded.ids.push_back(id(token));
      const bool is_spelled = encoded.ids.back() == unknown_id_ && token != tokenization_.unknown;
      if (is_spelled) encoded.spelling -= static_cast<double>(token.size() + 1) * std::log(kSpellingSymbols);
    }
    return encoded;
  }

  // The id of a token, or the unknown one's.
  std::int64_t id(const std::string& token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? unknown_id_ : found->second;
  }

 private:
  // The vocabulary of `bpe` holds the bytes, the results of the merges, the unknown token, and nothing else.
  void check_subwords() const {
    const std::vector<std::string>& required = tokenization_.pairs->all();
    for (const std::string& token : required) {
      if (ids_.count(token) == 0) throw Failure("its vocabulary lacks the token '" + token + "'");
    }
    if (size() != required.size() + 1) {
      throw Failure("its vocabulary of " + std::to_string(size()) + " tokens holds other ones than the bytes, <unk> and " +
                    "what its merges make, which are " + std::to_string(required.size() + 1));
    }
  }

  std::int64_t special(const std::string& token) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) {
      throw Failure("its vocabulary of " + std::to_string(size()) + " tokens lacks its special token '" + token + "'");
    }
    return found->second;
  }

  std::vector<std::string> tokens_;
  Tokenization tokenization_;
  std::unordered_map<std::string, std::int64_t> ids_;
  std::int64_t unknown_id_ = 0;
  std::int64_t end_of_sentence_id_ = 0;
};

inline Vocabulary vocabulary_of(const std::string& tokens_json, const std::string& tokenization_json) {
  std::vector<std::string> tokens;
  JsonReader reader(tokens_json, "its metadata lmtool.vocabulary");
  reader.list([&] { tokens.push_back(reader.string()); });
  reader.end();
  return Vocabulary(std::move(tokens), tokenization_of(tokenization_json));
}

}  // namespace lmtool
