// Streams text through an lmtool artifact with onnxruntime's C API: log-probability of each line, and next words.
//
//   suggest [--count N] [--threads N] [--separate] MODEL < text
//
// For each line of standard input it writes one line of five fields, separated by tabs: natural log-probability,
// perplexity, number of tokens, number of unknown tokens, the line. Below it are the most probable next words, each as
// an empty field, its probability, and the word. All lines are one text, and the state is kept between calls; with
// --separate each line is a separate text, as for rescoring.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <system_error>

#include "model.hpp"
#include "stream.hpp"
#include "text.hpp"
#include "tokenization.hpp"

using namespace lmtool;

namespace {

constexpr const char* kUsage = "usage: suggest [--count N] [--threads N] [--separate] MODEL < text";

struct Options final {
  std::string model;
  int count = 5;
  int threads = 1;
  bool separate = false;
  bool help = false;
};

int value_of(const std::string& option, const char* text, int lowest, int highest) {
  const std::string_view digits = text == nullptr ? std::string_view() : std::string_view(text);
  int found = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), found);
  if (error == std::errc() && end == digits.data() + digits.size() && found >= lowest && found <= highest) return found;
  throw Failure(option + " is '" + std::string(digits) + "', expected a whole number from " + std::to_string(lowest) +
                    " to " + std::to_string(highest) + "; " + kUsage,
                2);
}

Options options_of(char** argument) {
  Options options;
  bool only_names = false;
  for (; *argument != nullptr; ++argument) {
    const std::string text = *argument;
    if (only_names || text.empty() || text[0] != '-') {
      if (!options.model.empty()) throw Failure("'" + text + "' is one model too many; " + kUsage, 2);
      options.model = text;
    } else if (text == "--") {
      only_names = true;
    } else if (text == "--help") {
      options.help = true;
    } else if (text == "--separate") {
      options.separate = true;
    } else if (text == "--count") {
      options.count = value_of(text, *(argument + 1), 0, std::numeric_limits<int>::max());
      ++argument;
    } else if (text == "--threads") {
      options.threads = value_of(text, *(argument + 1), 1, 1024);
      ++argument;
    } else {
      throw Failure("the option '" + text + "' is not known; " + kUsage, 2);
    }
  }
  if (options.model.empty() && !options.help) throw Failure(std::string("no model is named; ") + kUsage, 2);
  return options;
}

// exp(-log_prob / tokens); 1 for no tokens.
double perplexity(double log_prob, std::size_t tokens) {
  return tokens == 0 ? 1 : std::exp(-log_prob / static_cast<double>(tokens));
}

void answer(Stream& stream, const Vocabulary& vocabulary, std::string_view line, const std::string& name, int count) {
  const auto [ids, spelling] = vocabulary.encode(line, name);
  const double log_prob = stream.score(ids) + spelling;
  const auto unknown = std::count(ids.begin(), ids.end(), vocabulary.unknown_id());
  std::cout << formatted("%.6f\t%.6g\t", log_prob, perplexity(log_prob, ids.size())) << ids.size() << '\t' << unknown
            << '\t' << escaped(line) << '\n';
  if (count > 0) {
    const Suggestions found = stream.suggest(static_cast<std::size_t>(count));
    for (const auto& [token, probability] : found.all) {
      std::cout << formatted("\t%.6f\t", probability) << escaped(token) << '\n';
    }
    if (!found.exact) std::cerr << name << ": the search was cut: other words may be as probable as the last ones\n";
  }
  if (!std::cout.flush()) throw Failure("cannot write to standard output");
}

Model loaded(const Options& options) {
  try {
    return Model(options.model, options.threads);
  } catch (const Failure& failure) {
    throw Failure(options.model + " cannot be used: " + failure.what(), failure.exit_code);
  }
}

// Reads a line that ends with CR, LF or CRLF. A CR answers at once: the LF that may follow is skipped by the next call.
bool read_line(std::istream& input, std::string& line, bool& after_return) {
  line.clear();
  for (int byte = input.get(); byte != std::char_traits<char>::eof(); byte = input.get()) {
    const bool second = byte == '\n' && after_return;
    after_return = byte == '\r';
    if (second) continue;
    if (byte == '\n' || byte == '\r') return true;
    line.push_back(static_cast<char>(byte));
  }
  return !line.empty();
}

void run(const Options& options) {
  const Model model = loaded(options);
  Stream stream(model);
  std::string line;
  bool after_return = false;
  for (std::size_t number = 1; read_line(std::cin, line, after_return); ++number) {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (number == 1) {
      if (line.compare(0, kByteOrderMark.size(), kByteOrderMark) == 0) line.erase(0, kByteOrderMark.size());
    } else if (options.separate) {
      stream.restart();
    } else {
      stream.feed(model.vocabulary().newline_id());
    }
    answer(stream, model.vocabulary(), line, "line " + std::to_string(number), options.count);
  }
  if (std::cin.bad()) throw Failure("cannot read standard input");
}

// Prints an error on one line, escaped: names and tokens in it come from the file.
int failed(const std::string& message, int exit_code) {
  std::cerr << "error: " << escaped(message) << '\n';
  return exit_code;
}

}  // namespace

int main(int, char** arguments) try {
  const Options options = options_of(*arguments == nullptr ? arguments : arguments + 1);
  if (options.help) {
    std::cout << kUsage << '\n';
    return 0;
  }
  // onnxruntime 1.29 and newer report to their maker unless this is set before CreateEnv; a value that is set is kept.
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);
  run(options);
  return 0;
} catch (const Failure& failure) {
  return failed(failure.what(), failure.exit_code);
} catch (const std::bad_alloc&) {
  return failed("there is not enough memory", 1);
} catch (const std::exception& error) {
  return failed(std::string("cannot go on: ") + error.what(), 1);
}
