// One text: what was read, how probable it is, and what may come next.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"
#include "token_table.hpp"
#include "word_search.hpp"

namespace lmtool {

inline constexpr std::size_t kFlushAt = 512;       // most tokens that wait to be read
inline constexpr std::size_t kScoringChunk = 128;  // tokens whose logits are in memory at once

// One text, for one thread at a time. It begins at the start of a sentence.
class Stream final {
 public:
  explicit Stream(const Model& model) : model_(model), table_(model.table()) { restart(); }

  // Begins a new text.
  void restart() {
    state_ = next_ = model_.initial_state();
    pending_ = {model_.vocabulary().end_of_sentence_id()};
  }

  // Appends a token. It is read when a prediction needs it, or when many wait.
  void feed(std::int64_t id) {
    pending_.push_back(id);
    if (pending_.size() <= kFlushAt) return;
    std::vector<std::int64_t> rest(pending_.begin() + kFlushAt, pending_.end());
    pending_.resize(kFlushAt);
    run(1);
    pending_ = std::move(rest);
  }

  // Appends tokens and returns their natural log-probability after the text before. A token must have been fed since
  // the last call of `suggest`, because the first token is predicted from it.
  double score(const std::vector<std::int64_t>& ids) {
    double total = 0;
    const std::size_t vocabulary = model_.vocabulary().size();
    for (std::size_t start = 0; start < ids.size(); start += kScoringChunk) {
      const std::size_t size = std::min(kScoringChunk, ids.size() - start);
      const auto chunk = ids.begin() + static_cast<std::ptrdiff_t>(start);
      pending_.insert(pending_.end(), chunk, chunk + static_cast<std::ptrdiff_t>(size) - 1);
      run(size);
      for (std::size_t position = 0; position < size; ++position) {
        const float* logits = logits_.data() + position * vocabulary;
        total += logits[ids[start + position]] - log_sum_exp(logits, vocabulary);
      }
      pending_ = {ids[start + size - 1]};
    }
    return total;
  }

  // The `count` most probable next words, without the unknown token and the end of a sentence. With the rule
  // `characters` they are characters, with `bpe` they are searched.
  Suggestions suggest(std::size_t count) { return table_ ? search(count) : best_tokens(count); }

 private:
  // The last space at the end of the text belongs to the word that follows, so the token that holds it stays among
  // those that wait, and the search begins before it.
  Suggestions search(std::size_t count) {
    const std::int64_t last = pending_.back();
    const std::string& data = table_->data(static_cast<std::size_t>(last));
    const bool is_spaced = !data.empty() && data.find_first_not_of(' ') == std::string::npos;
    if (is_spaced) pending_.pop_back();
    if (!pending_.empty()) run(1);
    pending_.clear();
    State state = state_;
    std::vector<float> logits(logits_.end() - static_cast<std::ptrdiff_t>(model_.vocabulary().size()), logits_.end());
    if (is_spaced) {
      pending_ = {last};
      auto [spaces, _] = model_.vocabulary().encode(std::string(data.size() - 1, ' '), "spaces");
      State before = state;
      if (!spaces.empty()) model_.run(spaces, 1, 1, before, state, logits);
    }
    const Kind kind = is_spaced ? kNothing : table_->kind_after(static_cast<std::size_t>(last));
    const auto place = std::make_shared<Place>(std::move(state), softmax(std::move(logits)));
    return WordSearch(model_, *table_, count, kind, is_spaced).after(place);
  }

  Suggestions best_tokens(std::size_t count) {
    run(1);
    pending_.clear();
    const Vocabulary& vocabulary = model_.vocabulary();
    const double total = log_sum_exp(logits_.data(), vocabulary.size());
    std::vector<std::size_t> order;
    for (std::size_t id = 0; id < vocabulary.size(); ++id) {
      const auto signed_id = static_cast<std::int64_t>(id);
      if (signed_id != vocabulary.unknown_id() && signed_id != vocabulary.end_of_sentence_id()) order.push_back(id);
    }
    const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min(count, order.size()));
    std::partial_sort(order.begin(), end, order.end(), [this](std::size_t left, std::size_t right) {
      return logits_[left] != logits_[right] ? logits_[left] > logits_[right] : left < right;
    });
    Suggestions found;
    std::for_each(order.begin(), end, [&](std::size_t id) {
      found.all.push_back({vocabulary.token(id), std::exp(logits_[id] - total)});
    });
    return found;
  }

  // Reads the waiting tokens; the new state replaces the old one, whose memory the next call reuses.
  void run(std::size_t kept) {
    model_.run(pending_, 1, kept, state_, next_, logits_);
    std::swap(state_, next_);
  }

  const Model& model_;
  const TokenTable* table_;  // of the rule `bpe`; else none
  State state_;
  State next_;
  std::vector<std::int64_t> pending_;
  std::vector<float> logits_;
};

}  // namespace lmtool
