// The most probable words after a text, by a model of the rule `bpe`: a best-first search over its tokens.
//
// A path is a way to write the begin of a word in tokens. The most probable paths run first, several in one call, until
// none can become a word that is more probable than those that were found. Only tokens as the rule writes them are
// followed: the model has read no others. So each word has one path, and its probability is the product of its tokens'
// probabilities and the probability that the next token does not make it longer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model.hpp"
#include "text.hpp"
#include "token_table.hpp"

namespace lmtool {

// Natural logarithm of the sum of exp(logits[0 .. size)).
inline double log_sum_exp(const float* logits, std::size_t size) {
  const double largest = *std::max_element(logits, logits + size);
  double sum = 0;
  for (std::size_t index = 0; index < size; ++index) sum += std::exp(logits[index] - largest);
  const double found = largest + std::log(sum);
  if (!std::isfinite(found)) {
    throw Failure("the artifact's logits are not finite numbers; export a model whose training did not diverge");
  }
  return found;
}

// Probabilities, float32 [vocabulary].
inline std::vector<float> softmax(std::vector<float> logits) {
  const double total = log_sum_exp(logits.data(), logits.size());
  for (float& logit : logits) logit = static_cast<float>(std::exp(logit - total));
  return logits;
}

struct Suggestion final {
  std::string token;
  double probability;
};

struct Suggestions final {
  std::vector<Suggestion> all;  // the most probable first
  bool exact = true;            // whether no other is as probable as the last of them
};

// A place in a text: its state, and the probabilities of the next token, float32 [vocabulary].
class Place final {
 public:
  Place(State state, std::vector<float> probabilities)
      : state_(std::move(state)), probabilities_(std::move(probabilities)) {}

  const State& state() const { return state_; }
  double share(std::size_t id) const { return double{probabilities_[id]}; }

  template <typename Fits>
  double sum(Fits fits) const {
    double total = 0;
    for (std::size_t id = 0; id < probabilities_.size(); ++id) total += fits(id) ? share(id) : 0;
    return total;
  }

  double sum(const std::vector<std::size_t>& ids) const {
    double total = 0;
    for (const std::size_t id : ids) total += share(id);
    return total;
  }

  // Ids that fit, of a probability above `least` and not above `most`, the most probable first.
  template <typename Fits>
  std::vector<std::size_t> ranked(double least, double most, Fits fits) const {
    std::vector<std::size_t> ids;
    for (std::size_t id = 0; id < probabilities_.size(); ++id) {
      if (share(id) > least && share(id) <= most && fits(id)) ids.push_back(id);
    }
    std::stable_sort(ids.begin(), ids.end(), [this](auto one, auto other) { return share(one) > share(other); });
    return ids;
  }

 private:
  State state_;
  std::vector<float> probabilities_;
};

// One search: WordSearch(model, table, count, before, is_spaced).after(place). `before` is what the text ends with;
// `is_spaced`: the words begin with a space.
class WordSearch final {
 public:
  WordSearch(const Model& model, const TokenTable& table, std::size_t count, Kind before, bool is_spaced)
      : model_(model), table_(table), count_(count), before_(before), is_spaced_(is_spaced) {}

  Suggestions after(const std::shared_ptr<const Place>& place) {
    const double total = is_spaced_ ? place->sum([this](std::size_t id) { return is_first(id); }) : 1;
    Path start;
    start.place = place;
    push(start, is_spaced_ ? table_.firsts() : table_.begins(before_), false);
    const std::size_t limit = std::min(kMostPaths + kPathsPerWord * std::min(count_, kLimit), kLimit);
    for (std::vector<Path> paths; ran_ < limit && !(paths = next_paths()).empty();) {
      ran_ += paths.size();
      run(paths);
      for (const Path& path : paths) expand(path);
    }
    return found(total);
  }

 private:
  static constexpr std::size_t kRows = 16;  // most paths that run in one call
  static constexpr std::size_t kMostPaths = 192;
  static constexpr std::size_t kPathsPerWord = 4;
  static constexpr std::size_t kLimit = 2048;
  static constexpr std::size_t kLongestWord = 64;  // bytes
  static constexpr double kRare = 0.002;           // tokens that are rarer are sorted when they are needed
  static constexpr double kUnsure = 0.001;  // share of a word's probability that may be that of an apostrophe after it

  struct Path final {
    std::shared_ptr<const Place> place;  // before the last token, until the path ran
    double probability = 1;
    std::string text;
    Kind kind = kNothing;
    std::size_t token = 0;
  };

  // A path that is to run, or the tokens after one that ran, the most probable first.
  struct Open final {
    Path path;
    const Kinds* kinds = nullptr;  // of the tokens; none for a path that is to run
    bool joins = false;            // whether they belong to the same piece as the path's last token
    std::vector<std::size_t> ids = {};
    std::size_t next = 0;
    bool with_rare = false;

    // At least the probability of the next path.
    double chance() const {
      if (next < ids.size()) return path.probability * path.place->share(ids[next]);
      return with_rare ? 0 : path.probability * kRare;
    }
  };

  struct Entry final {
    double priority;
    std::size_t serial;
    std::shared_ptr<Open> open;

    bool operator<(const Entry& other) const {
      return priority != other.priority ? priority < other.priority : serial > other.serial;
    }
  };

  bool is_first(std::size_t id) const { return !is_spaced_ || (!data(id).empty() && data(id)[0] == ' '); }
  const std::string& data(std::size_t id) const { return table_.data(id); }

  void add(double priority, const std::shared_ptr<Open>& open) {
    if (priority > last_) open_.push({priority, serial_++, open});
  }

  // Opens the tokens of `kinds` after a path.
  void push(const Path& path, const Kinds& kinds, bool joins) {
    if (path.probability <= last_) return;
    const auto open = std::make_shared<Open>(Open{path, &kinds, joins});
    open->ids = ranked(*open, kRare, 1);
    add(open->chance(), open);
  }

  std::vector<std::size_t> ranked(const Open& open, double least, double most) const {
    const bool is_start = open.path.text.empty();
    return open.path.place->ranked(least, most, [&](std::size_t id) {
      return (*open.kinds)[id] != kNothing && (!is_start || is_first(id));
    });
  }

  std::vector<Path> next_paths() {
    std::vector<Path> paths;
    while (paths.size() < kRows && !open_.empty() && open_.top().priority > last_) {
      const std::shared_ptr<Open> open = open_.top().open;
      open_.pop();
      if (open->kinds == nullptr) {
        paths.push_back(open->path);
      } else if (open->next < open->ids.size()) {
        const double chance = open->chance();
        take(*open, open->ids[open->next++], chance, paths);
        add(open->chance(), open);
      } else {
        open->with_rare = true;
        open->next = 0;
        open->ids = ranked(*open, 0, kRare);
        add(open->chance(), open);
      }
    }
    return paths;
  }

  // Adds the path with one more token, unless the rule does not write it so, or it is too long.
  void take(const Open& open, std::size_t id, double chance, std::vector<Path>& paths) {
    if (open.joins && !table_.follows(open.path.token, id)) return;
    Path longer = {open.path.place, chance, open.path.text + data(id), (*open.kinds)[id], id};
    if (longer.text.size() > kLongestWord + (is_spaced_ ? 1 : 0)) {
      dropped_ = std::max(dropped_, chance);
    } else {
      paths.push_back(std::move(longer));
    }
  }

  // Reads the last token of each path, all in one call.
  void run(std::vector<Path>& paths) const {
    std::vector<std::int64_t> ids;
    State states(paths[0].place->state().size());
    for (const Path& path : paths) {
      ids.push_back(static_cast<std::int64_t>(path.token));
      for (std::size_t tensor = 0; tensor < states.size(); ++tensor) {
        const std::vector<float>& row = path.place->state()[tensor];
        states[tensor].insert(states[tensor].end(), row.begin(), row.end());
      }
    }
    State next = states;
    std::vector<float> logits;
    model_.run(ids, paths.size(), 1, states, next, logits);
    const std::size_t vocabulary = model_.vocabulary().size();
    for (std::size_t row = 0; row < paths.size(); ++row) {
      State state;
      for (const std::vector<float>& tensor : next) state.push_back(row_of(tensor, row, tensor.size() / paths.size()));
      paths[row].place = std::make_shared<Place>(std::move(state), softmax(row_of(logits, row, vocabulary)));
    }
  }

  static std::vector<float> row_of(const std::vector<float>& tensor, std::size_t row, std::size_t width) {
    const auto begin = tensor.begin() + static_cast<std::ptrdiff_t>(row * width);
    return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(width));
  }

  // Finds the word that ends at the place of a path, and opens the paths that go on.
  void expand(const Path& path) {
    if (path.kind == kApostrophe) return expand_apostrophe(path);
    push(path, path.kind == kLetters ? table_.letters_only() : table_.moves(path.kind), true);
    if (path.kind == kSpace) return;
    const bool has_tail = path.kind == kLetters && table_.follows(path.token, table_.apostrophe());
    const bool has_mark = path.kind == kLetters && !has_tail;
    const double share = path.place->share(table_.apostrophe());
    const double ended = path.probability * (path.place->sum(table_.ends(path.kind)) + (has_mark ? share : 0));
    find(path.text, ended);
    if (has_tail) push_apostrophe(path, path.probability * share, ended);
  }

  // Opens the path with an apostrophe after letters; it runs before `ended`, their probability, is relied on.
  void push_apostrophe(const Path& path, double chance, double ended) {
    const Path longer = {path.place, chance, path.text + "'", kApostrophe, table_.apostrophe()};
    if (longer.text.size() > kLongestWord + (is_spaced_ ? 1 : 0)) return;
    add(chance > kUnsure * ended ? ended + chance : chance, std::make_shared<Open>(Open{longer}));
  }

  // Letters and an apostrophe: it belongs to the word if letters follow, else the word ended before it.
  void expand_apostrophe(const Path& path) {
    push(path, table_.moves(kTail), true);
    find(path.text.substr(0, path.text.size() - 1), path.probability * path.place->sum(table_.ends(kApostrophe)));
  }

  // Counts a word, if it is text.
  void find(std::string_view text, double chance) {
    const std::string word(text.substr(!text.empty() && text[0] == ' ' ? 1 : 0));
    bool is_text = true;
    repaired(word, &is_text);
    if (!is_text) return;
    words_[word] += chance;
    if (words_.size() < count_ || chance <= last_) return;
    std::vector<double> chances;
    for (const auto& [_, probability] : words_) chances.push_back(probability);
    const auto last = chances.begin() + static_cast<std::ptrdiff_t>(count_) - 1;
    std::nth_element(chances.begin(), last, chances.end(), std::greater<>());
    last_ = *last;
  }

  Suggestions found(double total) const {
    Suggestions found;
    for (const auto& [word, chance] : words_) found.all.push_back({word, std::min(chance / (total > 0 ? total : 1), 1.0)});
    std::stable_sort(found.all.begin(), found.all.end(),
                     [](const auto& one, const auto& other) { return one.probability > other.probability; });
    if (found.all.size() > count_) found.all.resize(count_);
    found.exact = std::max(open_.empty() ? 0 : open_.top().priority, dropped_) <= last_;
    return found;
  }

  const Model& model_;
  const TokenTable& table_;
  std::size_t count_;
  Kind before_;
  bool is_spaced_;
  std::map<std::string, double> words_;  // by their bytes
  double last_ = 0;                      // probability of the last of the words that are wanted
  double dropped_ = 0;
  std::size_t ran_ = 0;
  std::size_t serial_ = 0;
  std::priority_queue<Entry> open_;
};

}  // namespace lmtool
