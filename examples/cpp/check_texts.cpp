// Compares tokens with those of Python: check_texts test_texts.json
//
// `lmtool export --test-vectors` writes the file: a vocabulary, texts, their ids and the text of these ids. The rules
// `bpe` and `characters` are compared in both directions, the others from text to ids, where this program reads the text.
// Prints how many cases differ; the exit code is 1 then.

#include <algorithm>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "json_reader.hpp"
#include "text.hpp"
#include "tokenization.hpp"

using namespace lmtool;

namespace {

struct Case final {
  std::optional<std::string> text;
  std::vector<std::int64_t> ids;
  std::optional<std::string> decoded;
};

// `halves` are texts with halves of surrogate pairs, which UTF-8 cannot hold.
struct Cases final {
  Tokenization tokenization;
  std::vector<std::string> vocabulary;
  std::vector<Case> cases;
};

Case read_case(JsonReader& reader) {
  Case found;
  reader.object([&](const std::string& key) {
    if (key == "ids") {
      reader.list([&] { found.ids.push_back(reader.whole(0)); });
    } else {
      (key == "text" ? found.text : found.decoded) = reader.string();
    }
  });
  return found;
}

Cases read_cases(const std::string& json, const std::string& name) {
  Cases found;
  JsonReader reader(json, name);
  reader.object([&](const std::string& key) {
    if (key == "tokenization") {
      found.tokenization = read_tokenization(reader);
    } else if (key == "vocabulary") {
      reader.list([&] { found.vocabulary.push_back(reader.string()); });
    } else if (key == "texts" || key == "ids") {
      reader.list([&] { found.cases.push_back(read_case(reader)); });
    } else if (key == "format") {
      if (reader.whole(1) != 1) throw Failure(name + " is of another format, expected 1");
    } else {
      reader.skip();
    }
  });
  reader.end();
  return found;
}

// The ids of a text of several lines, as the program that reads them line by line gives them.
std::vector<std::int64_t> encode(const Vocabulary& vocabulary, const std::string& rule, const std::string& text) {
  if (rule == "bpe") return vocabulary.encode(text, "a text").ids;
  std::vector<std::int64_t> ids;
  std::string line;
  const auto end_line = [&] {
    for (const std::int64_t id : vocabulary.encode(line, "a text").ids) ids.push_back(id);
    line.clear();
  };
  for (std::size_t place = 0; place < text.size(); ++place) {
    if (text[place] != '\n' && text[place] != '\r') {
      line.push_back(text[place]);
    } else if (text[place] == '\r' || place == 0 || text[place - 1] != '\r') {
      end_line();
      ids.push_back(vocabulary.newline_id());
    }
  }
  end_line();
  return ids;
}

// Whether the program reads the text: the rules for words refuse most scripts.
bool is_read(const std::string& rule, const std::string& text) {
  const CodePoints points = decode(text, "a text");
  return (rule != "words" && rule != "words-2") || std::all_of(points.begin(), points.end(), is_classified);
}

int compare(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Failure(path + " cannot be read; expected the test_texts.json of lmtool export --test-vectors");
  const std::string json((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const Cases found = read_cases(json, path);
  const std::string& rule = found.tokenization.rule;
  const Vocabulary vocabulary(found.vocabulary, found.tokenization);
  const bool decodes = rule == "bpe" || rule == "characters";
  std::size_t compared = 0;
  std::size_t different = 0;
  for (const Case& each : found.cases) {
    if (each.text ? !is_read(rule, *each.text) : !decodes) continue;
    ++compared;
    const bool same_ids = !each.text || encode(vocabulary, rule, *each.text) == each.ids;
    const bool same_text = !decodes || vocabulary.decode(each.ids) == (each.decoded ? *each.decoded : *each.text);
    if (!same_ids || !same_text) ++different;
  }
  std::cout << compared << " cases of the rule " << rule << ", " << different << " differ\n";
  return different == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) try {
  if (count != 2) throw Failure("usage: check_texts test_texts.json", 2);
  return compare(arguments[1]);
} catch (const Failure& failure) {
  std::cerr << "error: " << escaped(failure.what()) << '\n';
  return failure.exit_code;
} catch (const std::exception& error) {
  std::cerr << "error: " << escaped(error.what()) << '\n';
  return 1;
}
