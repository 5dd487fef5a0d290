// A loaded artifact, by onnxruntime's C API, whose binary interface is stable: any onnxruntime that is not older than the
// header works.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "artifact_file.hpp"
#include "json_reader.hpp"
#include "text.hpp"
#include "token_table.hpp"
#include "tokenization.hpp"

namespace lmtool {

inline constexpr std::int64_t kMostState = std::int64_t{1} << 24;  // float32 numbers of a text's state, 64 MiB

inline const OrtApi& ort() {
  static const OrtApi* const api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw Failure(std::string("onnxruntime ") + OrtGetApiBase()->GetVersionString() +
                  " is older than the header, which is of API version " + std::to_string(ORT_API_VERSION) +
                  "; compile with the library's own header");
  }
  return *api;
}

inline void check(OrtStatus* status, const std::string& doing) {
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

inline constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
inline constexpr auto kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

// An error is returned as a status. onnxruntime would also log it, with unescaped names from the file.
inline constexpr auto kLogLevel = ORT_LOGGING_LEVEL_FATAL;

inline std::string shown(const Nodes& nodes, const std::string& name) {
  const auto found = nodes.find(name);
  if (found == nodes.end()) return "none";
  const Node& node = found->second;
  std::string text = node.type == kFloat ? "float32 [" : node.type == kInt64 ? "int64 [" : "another type [";
  for (std::size_t axis = 0; axis < node.shape.size(); ++axis) {
    text += (axis == 0 ? "" : ", ") + (node.shape[axis] < 0 ? "any" : std::to_string(node.shape[axis]));
  }
  return text + "]";
}

inline void require_nodes(const std::string& kind, const Nodes& expected, const Nodes& found) {
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
inline std::map<std::string, std::int64_t> state_widths(const std::string& model_json) {
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

// The state of one text, a value: one float32 [1, width] for each state tensor; of several texts, [rows, width].
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
    if (vocabulary_.has_parts()) table_.emplace(vocabulary_);
  }
  Model(const Model&) = delete;  // the table reads the vocabulary
  Model& operator=(const Model&) = delete;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  const TokenTable* table() const { return table_ ? &*table_ : nullptr; }  // of the rule `bpe`; else none

  // The state before any token.
  State initial_state() const {
    State state;
    for (const auto& [_, width] : widths_) state.emplace_back(static_cast<std::size_t>(width), 0.0F);
    return state;
  }

  // Reads token ids, int64 [rows, time], one row for each text, time >= 1. `logits` becomes float32
  // [rows, kept, vocabulary], the logits after each of the last `kept` positions; `next` becomes the states after the
  // last, [rows, width] each, as those of `state`. Several rows have one position each. The session uses the memory of
  // these vectors.
  void run(std::vector<std::int64_t>& ids, std::size_t rows, std::size_t kept, State& state, State& next,
           std::vector<float>& logits) const {
    const std::size_t time = ids.size() / rows;
    const auto batch = static_cast<std::int64_t>(rows);
    std::vector<std::int64_t> to_keep = {static_cast<std::int64_t>(can_keep_ ? kept : time)};
    logits.resize(rows * static_cast<std::size_t>(to_keep[0]) * vocabulary_.size());
    Call inputs;
    Call outputs;
    add(inputs, "token_ids", ids, {batch, static_cast<std::int64_t>(time)}, kInt64);
    add(outputs, "logits", logits, {batch, to_keep[0], static_cast<std::int64_t>(vocabulary_.size())}, kFloat);
    std::size_t index = 0;
    for (const auto& [name, width] : widths_) {
      add(inputs, name, state[index], {batch, width}, kFloat);
      add(outputs, "next_" + name, next[index++], {batch, width}, kFloat);
    }
    if (can_keep_) add(inputs, "logits_to_keep", to_keep, {1}, kInt64);
    const auto [input_names, input_values] = inputs.pointers();
    auto [output_names, output_values] = outputs.pointers();
    check(ort().Run(session_.get(), nullptr, input_names.data(), input_values.data(), input_values.size(),
                    output_names.data(), output_names.size(), output_values.data()),
          "run the artifact");
    logits.erase(logits.begin(), logits.end() - static_cast<std::ptrdiff_t>(rows * kept * vocabulary_.size()));
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
  std::optional<TokenTable> table_;
  bool can_keep_ = false;
};

}  // namespace lmtool
