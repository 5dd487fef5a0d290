// Streams text through an lmtool artifact with onnxruntime's C API: log-probability of each line, and next words.
//
//   suggest [--count N] [--threads N] [--separate] MODEL < text
//
// For each line of standard input it writes one line of five fields, separated by tabs: natural log-probability,
// perplexity, number of tokens, number of unknown tokens, the line. Below it are the most probable next tokens, each as
// an empty field, its probability, and the token. All lines are one text, and the state is kept between calls; with
// --separate each line is a separate text, as for rescoring.
//
// It uses only the C API, whose binary interface is stable: any onnxruntime that is not older than the header works.

#include <onnxruntime_c_api.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <ios>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "json_reader.hpp"
#include "text.hpp"
#include "tokenization.hpp"

using namespace lmtool;

namespace {

constexpr const char* kUsage = "usage: suggest [--count N] [--threads N] [--separate] MODEL < text";
constexpr std::size_t kFlushAt = 512;       // most tokens that wait to be read
constexpr std::size_t kScoringChunk = 128;  // tokens whose logits are in memory at once
constexpr std::int64_t kMostState = std::int64_t{1} << 24;  // float32 numbers of a text's state, 64 MiB

// ---------------------------------------------------------------------------------------------------- the file's bytes

constexpr std::array<std::uint32_t, 64> kSha256 = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

using Digest = std::array<std::uint32_t, 8>;

std::uint32_t rotated(std::uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

// Adds 64 bytes to a SHA-256 (FIPS 180-4).
void hash_block(Digest& digest, const unsigned char* block) {
  std::array<std::uint32_t, 64> words{};
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t byte = 0; byte < 4; ++byte) words[i] = words[i] << 8 | block[4 * i + byte];
  }
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t a = words[i - 15];
    const std::uint32_t b = words[i - 2];
    words[i] = words[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + words[i - 7] +
               (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
  }
  auto [a, b, c, d, e, f, g, h] = digest;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t first =
        h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + kSha256[i] + words[i];
    const std::uint32_t second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
  }
  const Digest added = {a, b, c, d, e, f, g, h};
  std::transform(digest.begin(), digest.end(), added.begin(), digest.begin(), std::plus<>());
}

// SHA-256 as 64 hexadecimal digits.
std::string sha256(std::string_view data) {
  Digest digest = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const auto* bytes = reinterpret_cast<const unsigned char*>(data.data());
  const std::size_t whole = data.size() / 64 * 64;
  for (std::size_t start = 0; start < whole; start += 64) hash_block(digest, bytes + start);
  std::vector<unsigned char> rest(bytes + whole, bytes + data.size());
  rest.push_back(0x80);
  while (rest.size() % 64 != 56) rest.push_back(0);
  const std::uint64_t bits = std::uint64_t{data.size()} * 8;
  for (int shift = 56; shift >= 0; shift -= 8) rest.push_back(static_cast<unsigned char>(bits >> shift));
  for (std::size_t start = 0; start < rest.size(); start += 64) hash_block(digest, rest.data() + start);
  std::string digits;
  for (const std::uint32_t word : digest) digits += formatted("%08x", static_cast<unsigned>(word));
  return digits;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string data;
  std::vector<char> block(1 << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0) {
    data.append(block.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (!file.eof()) throw Failure("it cannot be read; expected an lmtool artifact, as lmtool export writes it");
  return data;
}

// Checks the hash that the file declares; its own 64 digits count as zeros in it.
void check_hash(std::string& data) {
  constexpr std::string_view kEntry = "\x0a\x0dlmtool.sha256\x12\x40";  // as protobuf writes key and value
  const std::size_t entry = data.find(kEntry);
  const std::size_t start = entry + kEntry.size();
  if (entry == std::string::npos || start + 64 > data.size()) {
    throw Failure("it has no lmtool.sha256, so it was not exported by lmtool (use: lmtool export)");
  }
  const std::string declared = data.substr(start, 64);
  data.replace(start, 64, 64, '0');
  const std::string found = sha256(data);
  data.replace(start, 64, declared);
  if (found != declared) {
    throw Failure("it is damaged: its bytes hash to " + found.substr(0, 12) + "..., it declares " +
                  declared.substr(0, 12) + "...; copy or export it again");
  }
}

// --------------------------------------------------------------------------------------------------------- onnxruntime

const OrtApi& ort() {
  static const OrtApi* const api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw Failure(std::string("onnxruntime ") + OrtGetApiBase()->GetVersionString() +
                  " is older than the header, which is of API version " + std::to_string(ORT_API_VERSION) +
                  "; compile with the library's own header");
  }
  return *api;
}

void check(OrtStatus* status, const std::string& doing) {
  if (status == nullptr) return;
  const std::unique_ptr<OrtStatus, void (*)(OrtStatus*)> owned(status, ort().ReleaseStatus);
  throw Failure(std::string("onnxruntime ") + OrtGetApiBase()->GetVersionString() + " cannot " + doing + ": " +
                ort().GetErrorMessage(status));
}

// An object of onnxruntime that is released with its owner.
template <typename T>
using Handle = std::unique_ptr<T, void (*)(T*)>;

template <typename T, typename Create>
Handle<T> made(void (*release)(T*), const std::string& doing, Create create) {
  T* object = nullptr;
  check(create(&object), doing);
  return Handle<T>(object, release);
}

// A string that onnxruntime allocates, or none.
template <typename Get>
std::optional<std::string> allocated(Get get) {
  OrtAllocator* allocator = nullptr;
  char* text = nullptr;
  check(ort().GetAllocatorWithDefaultOptions(&allocator), "give its allocator");
  check(get(allocator, &text), "give a string");
  const auto release = [allocator](char* owned) { allocator->Free(allocator, owned); };
  const std::unique_ptr<char, decltype(release)> owned(text, release);
  return text == nullptr ? std::nullopt : std::optional<std::string>(text);
}

// Type and sizes of an input or output; a free size is -1.
struct Node final {
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<std::int64_t> shape;

  bool operator==(const Node& other) const { return type == other.type && shape == other.shape; }
};

using Nodes = std::map<std::string, Node>;

constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

// An error is returned as a status. onnxruntime would also log it, with unescaped names from the file.
constexpr auto kLogLevel = ORT_LOGGING_LEVEL_FATAL;

std::string shown(const Nodes& nodes, const std::string& name) {
  const auto found = nodes.find(name);
  if (found == nodes.end()) return "none";
  const Node& node = found->second;
  std::string text = node.type == kFloat ? "float32 [" : node.type == kInt64 ? "int64 [" : "another type [";
  for (std::size_t axis = 0; axis < node.shape.size(); ++axis) {
    text += (axis == 0 ? "" : ", ") + (node.shape[axis] < 0 ? "any" : std::to_string(node.shape[axis]));
  }
  return text + "]";
}

void require_nodes(const std::string& kind, const Nodes& expected, const Nodes& found) {
  Nodes all = expected;
  all.insert(found.begin(), found.end());
  for (const auto& [name, _] : all) {
    const auto ours = expected.find(name);
    const auto theirs = found.find(name);
    if (ours == expected.end() || theirs == found.end() || !(ours->second == theirs->second)) {
      throw Failure("the " + kind + " '" + name + "' breaks the contract: found " + shown(found, name) + ", expected " +
                    shown(expected, name));
    }
  }
}

// Name of each state tensor -> its width, from the artifact's description of its network.
std::map<std::string, std::int64_t> state_widths(const std::string& model_json) {
  std::string cell;
  std::vector<std::int64_t> sizes;
  JsonReader reader(model_json, "its metadata lmtool.model");
  reader.object([&](const std::string& key) {
    if (key == "cell") {
      cell = reader.string();
    } else if (key == "layer_sizes") {
      reader.list([&] { sizes.push_back(reader.whole(1)); });
    } else {
      reader.skip();
    }
  });
  reader.end();
  if (sizes.empty() || (cell != "lstm" && cell != "gru" && cell != "rnn")) {
    throw Failure("its network has the cell '" + cell + "' and " + std::to_string(sizes.size()) +
                  " layers, expected lstm, gru or rnn and one layer or more");
  }
  std::map<std::string, std::int64_t> widths;
  const std::int64_t tensors = cell == "lstm" ? 2 : 1;  // of each layer
  std::int64_t left = kMostState;
  for (std::size_t layer = 0; layer < sizes.size(); ++layer) {
    if (sizes[layer] > left / tensors) {
      throw Failure("its network has a layer " + std::to_string(layer) + " of " + std::to_string(sizes[layer]) +
                    " units, with which its state is too large; expected " + std::to_string(kMostState) +
                    " numbers at most in all of its state");
    }
    left -= tensors * sizes[layer];
    widths["hidden_" + std::to_string(layer)] = sizes[layer];
    if (cell == "lstm") widths["cell_" + std::to_string(layer)] = sizes[layer];
  }
  return widths;
}

// The state of one text, a value: one float32 [1, width] for each state tensor.
using State = std::vector<std::vector<float>>;

// A loaded artifact. It does not change, and threads can share its session, so one Model serves all Streams of a
// program.
class Model final {
 public:
  Model(const std::string& path, int threads)
      : environment_(made<OrtEnv>(
            ort().ReleaseEnv, "start",
            [](OrtEnv** out) { return ort().CreateEnv(kLogLevel, "suggest", out); })),
        session_(start(path, threads)),
        memory_(made<OrtMemoryInfo>(
            ort().ReleaseMemoryInfo, "name the processor's memory",
            [](OrtMemoryInfo** out) { return ort().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, out); })),
        vocabulary_(described()),
        widths_(state_widths(metadata("lmtool.model"))) {
    require_contract();
  }

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // The state before any token.
  State initial_state() const {
    State state;
    for (const auto& [_, width] : widths_) state.emplace_back(static_cast<std::size_t>(width), 0.0F);
    return state;
  }

  // Reads token ids, int64 [time], time >= 1. `logits` becomes float32 [kept, vocabulary], the logits after each of the
  // last `kept` positions; `next` becomes the state after the last. The session uses the memory of these vectors.
  void run(std::vector<std::int64_t>& ids, std::size_t kept, State& state, State& next,
           std::vector<float>& logits) const {
    const std::size_t given = can_keep_ ? kept : ids.size();
    std::vector<std::int64_t> to_keep = {static_cast<std::int64_t>(given)};
    logits.resize(given * vocabulary_.size());
    Call inputs;
    Call outputs;
    add(inputs, "token_ids", ids, {1, static_cast<std::int64_t>(ids.size())}, kInt64);
    add(outputs, "logits", logits, {1, to_keep[0], static_cast<std::int64_t>(vocabulary_.size())}, kFloat);
    std::size_t index = 0;
    for (const auto& [name, width] : widths_) {
      add(inputs, name, state[index], {1, width}, kFloat);
      add(outputs, "next_" + name, next[index++], {1, width}, kFloat);
    }
    if (can_keep_) add(inputs, "logits_to_keep", to_keep, {1}, kInt64);
    const auto [input_names, input_values] = inputs.pointers();
    auto [output_names, output_values] = outputs.pointers();
    check(ort().Run(session_.get(), nullptr, input_names.data(), input_values.data(), input_values.size(),
                    output_names.data(), output_names.size(), output_values.data()),
          "run the artifact");
    logits.erase(logits.begin(), logits.end() - static_cast<std::ptrdiff_t>(kept * vocabulary_.size()));
  }

 private:
  // Tensors by name, over memory of the caller.
  struct Call final {
    std::vector<std::string> names;
    std::vector<Handle<OrtValue>> values;

    std::pair<std::vector<const char*>, std::vector<OrtValue*>> pointers() const {
      std::pair<std::vector<const char*>, std::vector<OrtValue*>> found;
      for (const auto& name : names) found.first.push_back(name.c_str());
      for (const auto& value : values) found.second.push_back(value.get());
      return found;
    }
  };

  template <typename T>
  void add(Call& call, std::string name, std::vector<T>& data, const std::vector<std::int64_t>& shape,
           ONNXTensorElementDataType type) const {
    call.names.push_back(std::move(name));
    call.values.push_back(made<OrtValue>(ort().ReleaseValue, "make a tensor", [&](OrtValue** out) {
      return ort().CreateTensorWithDataAsOrtValue(memory_.get(), data.data(), data.size() * sizeof(T), shape.data(),
                                                  shape.size(), type, out);
    }));
  }

  Handle<OrtSession> start(const std::string& path, int threads) const {
    std::string data = read_file(path);
    check_hash(data);
    const auto options =
        made<OrtSessionOptions>(ort().ReleaseSessionOptions, "make options",
                                [](OrtSessionOptions** out) { return ort().CreateSessionOptions(out); });
    const auto set = [&options](const char* key, const char* value) {
      check(ort().AddSessionConfigEntry(options.get(), key, value), std::string("set ") + key);
    };
    check(ort().SetIntraOpNumThreads(options.get(), threads), "set its threads");
    check(ort().SetInterOpNumThreads(options.get(), 1), "set its threads");
    check(ort().SetSessionLogSeverityLevel(options.get(), kLogLevel), "set its log level");
    // With every optimization onnxruntime 1.31 crashes on half-precision recurrent layers on the CPU.
    check(ort().SetSessionGraphOptimizationLevel(options.get(), ORT_ENABLE_EXTENDED), "set its optimizations");
    check(ort().DisableCpuMemArena(options.get()), "give memory back after a call");
    set("session.intra_op.allow_spinning", "0");
    // x86-64 without VNNI sums pairs of uint8 times int8 in 16 bits, which overflow; this makes int8 weights uint8.
    set("session.x64quantprecision", "1");
    // An artifact holds all of its weights: a path below a file has no others.
    set("session.model_external_initializers_file_folder_path", path.c_str());
    return made<OrtSession>(ort().ReleaseSession, "load the artifact", [&](OrtSession** out) {
      return ort().CreateSessionFromArray(environment_.get(), data.data(), data.size(), options.get(), out);
    });
  }

  std::string metadata(const std::string& key) const {
    const auto all = made<OrtModelMetadata>(
        ort().ReleaseModelMetadata, "read the metadata",
        [this](OrtModelMetadata** out) { return ort().SessionGetModelMetadata(session_.get(), out); });
    const auto found = allocated([&](OrtAllocator* allocator, char** out) {
      return ort().ModelMetadataLookupCustomMetadataMap(all.get(), allocator, key.c_str(), out);
    });
    if (!found) throw Failure("its metadata lacks " + key);
    return *found;
  }

  Vocabulary described() const {
    if (const std::string format = metadata("lmtool.format"); format != "1") {
      throw Failure("its format is '" + format + "', this program reads '1'; export the model again");
    }
    return vocabulary_of(metadata("lmtool.vocabulary"), metadata("lmtool.tokenization"));
  }

  void require_contract() {
    Nodes inputs = {{"token_ids", {kInt64, {-1, -1}}}};
    Nodes outputs = {{"logits", {kFloat, {-1, -1, static_cast<std::int64_t>(vocabulary_.size())}}}};
    for (const auto& [name, width] : widths_) {
      inputs[name] = {kFloat, {-1, width}};
      outputs["next_" + name] = {kFloat, {-1, width}};
    }
    const OrtSession* session = session_.get();
    require_nodes("input", inputs,
                  nodes(ort().SessionGetInputCount, ort().SessionGetInputName, ort().SessionGetInputTypeInfo));
    require_nodes("output", outputs,
                  nodes(ort().SessionGetOutputCount, ort().SessionGetOutputName, ort().SessionGetOutputTypeInfo));
    std::size_t count = 0;
    check(ort().SessionGetOverridableInitializerCount(session, &count), "count the optional inputs");
    for (std::size_t index = 0; index < count; ++index) {
      can_keep_ = can_keep_ || name_of(ort().SessionGetOverridableInitializerName, index) == "logits_to_keep";
    }
  }

  template <typename Name>
  std::string name_of(Name name, std::size_t index) const {
    return allocated([&](OrtAllocator* allocator, char** out) { return name(session_.get(), index, allocator, out); })
        .value_or("");
  }

  template <typename Count, typename Name, typename Info>
  Nodes nodes(Count count, Name name, Info info) const {
    Nodes found;
    std::size_t size = 0;
    check(count(session_.get(), &size), "count inputs and outputs");
    for (std::size_t index = 0; index < size; ++index) {
      const auto type = made<OrtTypeInfo>(ort().ReleaseTypeInfo, "describe an input or output",
                                          [&](OrtTypeInfo** out) { return info(session_.get(), index, out); });
      found[name_of(name, index)] = node_of(type.get());
    }
    return found;
  }

  static Node node_of(const OrtTypeInfo* info) {
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;  // belongs to `info`
    check(ort().CastTypeInfoToTensorInfo(info, &tensor), "describe a tensor");
    Node node;
    if (tensor == nullptr) return node;
    std::size_t axes = 0;
    check(ort().GetTensorElementType(tensor, &node.type), "tell a tensor's type");
    check(ort().GetDimensionsCount(tensor, &axes), "count a tensor's axes");
    node.shape.resize(axes);
    check(ort().GetDimensions(tensor, node.shape.data(), axes), "tell a tensor's shape");
    return node;
  }

  Handle<OrtEnv> environment_;
  Handle<OrtSession> session_;
  Handle<OrtMemoryInfo> memory_;
  Vocabulary vocabulary_;
  std::map<std::string, std::int64_t> widths_;  // in the artifact's sorted order
  bool can_keep_ = false;
};

// -------------------------------------------------------------------------------------------------------------- stream

// Natural logarithm of the sum of exp(logits[0 .. size)).
double log_sum_exp(const float* logits, std::size_t size) {
  const double largest = *std::max_element(logits, logits + size);
  double sum = 0;
  for (std::size_t index = 0; index < size; ++index) sum += std::exp(logits[index] - largest);
  const double found = largest + std::log(sum);
  if (!std::isfinite(found)) {
    throw Failure("the artifact's logits are not finite numbers; export a model whose training did not diverge");
  }
  return found;
}

struct Suggestion final {
  std::string token;
  double probability;
};

// One text, for one thread at a time. It begins at the start of a sentence.
class Stream final {
 public:
  explicit Stream(const Model& model) : model_(model) { restart(); }

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

  // The `count` most probable next words, highest first, without the unknown token and the end of a sentence.
  std::vector<Suggestion> suggest(std::size_t count) {
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
    std::vector<Suggestion> found;
    std::for_each(order.begin(), end, [&](std::size_t id) {
      found.push_back({vocabulary.shown(id), std::exp(logits_[id] - total)});
    });
    return found;
  }

 private:
  // Reads the waiting tokens; the new state replaces the old one, whose memory the next call reuses.
  void run(std::size_t kept) {
    model_.run(pending_, kept, state_, next_, logits_);
    std::swap(state_, next_);
  }

  const Model& model_;
  State state_;
  State next_;
  std::vector<std::int64_t> pending_;
  std::vector<float> logits_;
};

// ------------------------------------------------------------------------------------------------------------- program

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
    for (const auto& [token, probability] : stream.suggest(static_cast<std::size_t>(count))) {
      std::cout << formatted("\t%.6f\t", probability) << escaped(token) << '\n';
    }
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
