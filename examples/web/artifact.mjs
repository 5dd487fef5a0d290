// The artifact's contract (format 1): one ONNX file that holds its weights, vocabulary, tokenization and hash.
//
// The whole file is read and checked before anything runs, so that a damaged or foreign file is refused. Works in
// browsers and in node.
import { ArtifactError } from "./errors.mjs";
import { readGraph } from "./graph.mjs";
import { Tokenization } from "./tokenization.mjs";
import { Vocabulary } from "./vocabulary.mjs";
import { fields, text } from "./wire.mjs";

const FORMAT = "1";
const HASH = "lmtool.sha256";
const METADATA = 14,
  GRAPH = 7; // field numbers of an ONNX model
const PRECISIONS = ["fp32", "fp16", "int8", "w8", "w4"];
const CELLS = { lstm: ["cell", "hidden"], gru: ["hidden"], rnn: ["hidden"] };
const LOGITS_TO_KEEP = "logits_to_keep";

// A checked file: bytes, sha256, hashChecked (false if the browser cannot compute hashes), states (name -> width),
// vocabulary, precision, batchInvariant, model and training (objects, as recorded).
export class Artifact {
  #keep;

  // Reads a file's bytes (Uint8Array); messages call the file `name`. Throws an ArtifactError.
  static async read(data, name = "the file") {
    // Converts node's Buffer: its slices are not copies.
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    try {
      const { metadata, graph } = outline(bytes);
      checkFormat(metadata);
      const hashChecked = await checkHash(bytes, metadata);
      return new Artifact(bytes, metadata, graph, hashChecked);
    } catch (error) {
      if (!(error instanceof ArtifactError)) throw error;
      throw new ArtifactError(`${name} (${bytes.length.toLocaleString("en")} bytes) cannot be used: ${error.message}`);
    }
  }

  constructor(bytes, metadata, graph, hashChecked) {
    this.bytes = bytes;
    this.sha256 = value(metadata, HASH);
    this.hashChecked = hashChecked;
    this.model = object(metadata, "lmtool.model");
    this.states = statesOf(this.model);
    this.vocabulary = new Vocabulary(
      json(metadata, "lmtool.vocabulary"),
      new Tokenization(json(metadata, "lmtool.tokenization")),
    );
    this.precision = choice(metadata, "lmtool.precision", PRECISIONS);
    this.batchInvariant = choice(metadata, "lmtool.batch_invariant", ["true", "false"]) === "true";
    this.training = object(metadata, "lmtool.training");
    this.#keep = graph.defaults.get(LOGITS_TO_KEEP) ?? null;
    checkContract(graph, this.states, this.vocabulary.size);
  }

  // The file's bytes for a session that computes logits of the last `count` positions only (0: of all).
  // onnxruntime's JavaScript packages do not support optional inputs, so this writes the input's default, an int64.
  // A file without that input is returned unchanged.
  bytesKeeping(count) {
    if (this.#keep === null || this.#keep.end - this.#keep.start !== 8) return this.bytes;
    const changed = this.bytes.slice();
    new DataView(changed.buffer).setBigInt64(this.#keep.start, BigInt(count), true);
    return changed;
  }
}

// The file's metadata (key -> { text, start, end }) and its graph's inputs and outputs.
function outline(bytes) {
  const metadata = new Map();
  let graph = { inputs: {}, outputs: {}, defaults: new Map() };
  for (const field of fields(bytes)) {
    if (field.number === GRAPH) graph = readGraph(bytes, field);
    else if (field.number === METADATA) {
      const [key, entry] = metadataEntry(bytes, field);
      if (metadata.has(key)) throw new ArtifactError(`the metadata key "${key}" appears twice`);
      metadata.set(key, entry);
    }
  }
  return { metadata, graph };
}

function metadataEntry(bytes, { start, end }) {
  const parts = new Map([...fields(bytes, start, end)].map((part) => [part.number, part]));
  const [key, entry] = [parts.get(1), parts.get(2)];
  if (!key || !entry || parts.size !== 2) throw new ArtifactError("a metadata entry is not a key and a value");
  return [text(bytes, key), { text: text(bytes, entry), start: entry.start, end: entry.end }];
}

function checkFormat(metadata) {
  const found = metadata.get("lmtool.format")?.text;
  if (found === undefined) {
    throw new ArtifactError(
      "it has no lmtool.format, so it was not exported by lmtool; expected a file of lmtool export",
    );
  }
  if (found !== FORMAT) {
    throw new ArtifactError(`its format is "${found}", this page reads "${FORMAT}"; take a newer page or export again`);
  }
}

// Checks the hash; false if it cannot: browsers have crypto.subtle in secure contexts only (https or localhost).
async function checkHash(bytes, metadata) {
  const declared = value(metadata, HASH);
  if (!globalThis.crypto?.subtle) return false;
  const { start, end } = metadata.get(HASH);
  const digest = await crypto.subtle.digest("SHA-256", bytes.slice().fill("0".charCodeAt(), start, end));
  const found = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== declared) {
    const hashes = `its bytes hash to ${found.slice(0, 12)}..., it declares ${declared.slice(0, 12)}...`;
    throw new ArtifactError(`it is damaged: ${hashes}; copy or export it again`);
  }
  return true;
}

function statesOf({ cell, layer_sizes: sizes }) {
  const right = Array.isArray(sizes) && sizes.length > 0 && sizes.every((size) => Number.isInteger(size) && size > 0);
  if (!Object.hasOwn(CELLS, cell) || !right) {
    throw new ArtifactError("its lmtool.model is not one that this page reads; expected a cell and its layer_sizes");
  }
  return Object.fromEntries(CELLS[cell].flatMap((state) => sizes.map((size, layer) => [`${state}_${layer}`, size])));
}

// Compares names, types and shapes of the graph's inputs and outputs with the metadata; null is a free axis.
function checkContract({ inputs, outputs, defaults }, states, vocabularySize) {
  const tensors = (prefix) =>
    Object.entries(states).map(([name, width]) => [prefix + name, { type: "float32", shape: [null, width] }]);
  const required = Object.entries(inputs).filter(([name]) => !defaults.has(name));
  const tokenIds = ["token_ids", { type: "int64", shape: [null, null] }];
  const logits = ["logits", { type: "float32", shape: [null, null, vocabularySize] }];
  checkValues("input", Object.fromEntries([tokenIds, ...tensors("")]), Object.fromEntries(required));
  checkValues("output", Object.fromEntries([logits, ...tensors("next_")]), outputs);
}

function checkValues(kind, expected, found) {
  for (const name of Object.keys({ ...expected, ...found }).sort()) {
    if (!fits(found[name], expected[name])) {
      throw new ArtifactError(
        `the ${kind} "${name}" breaks the contract: found ${shown(found[name])}, expected ${shown(expected[name])}`,
      );
    }
  }
}

const fits = (found, expected) =>
  found?.type === expected?.type &&
  found?.shape.length === expected?.shape.length &&
  (found?.shape ?? []).every((size, axis) => size === expected.shape[axis]);

const shown = (tensor) =>
  tensor ? `${tensor.type} [${tensor.shape.map((size) => size ?? "any").join(", ")}]` : "none";

function value(metadata, key) {
  if (!metadata.has(key)) throw new ArtifactError(`its metadata lacks ${key}`);
  return metadata.get(key).text;
}

function choice(metadata, key, choices) {
  const found = value(metadata, key);
  if (!choices.includes(found))
    throw new ArtifactError(`its ${key} is "${found}", expected one of ${choices.join(", ")}`);
  return found;
}

function json(metadata, key) {
  try {
    return JSON.parse(value(metadata, key));
  } catch (error) {
    if (error instanceof ArtifactError) throw error;
    throw new ArtifactError(`its metadata ${key} is not JSON: ${error.message}`);
  }
}

function object(metadata, key) {
  const found = json(metadata, key);
  if (found === null || typeof found !== "object" || Array.isArray(found)) {
    throw new ArtifactError(`its metadata ${key} is no object`);
  }
  return found;
}
