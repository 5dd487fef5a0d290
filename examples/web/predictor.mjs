// The predictor: one artifact in one onnxruntime session. State goes in and comes out as a value.
//
// `ort` is onnxruntime-web or onnxruntime-node: both have the same interface.

const ERRORS_ONLY = 3;
const CHUNK = 512; // most tokens of one call
// x86-64 without VNNI sums pairs of uint8 times int8 in 16 bits, which overflow; this makes int8 weights uint8.
export const EXACT_INT8 = { session: { x64quantprecision: "1" } };

export class Predictor {
  #ort;
  #session;

  static async create(ort, artifact, options = {}) {
    // No warning about the input that has a default.
    const settings = { logSeverityLevel: ERRORS_ONLY, extra: EXACT_INT8, ...options };
    const session = await ort.InferenceSession.create(artifact.bytesKeeping(1), settings);
    return new Predictor(ort, artifact, session);
  }

  constructor(ort, artifact, session) {
    this.#ort = ort;
    this.#session = session;
    this.artifact = artifact;
    this.vocabulary = artifact.vocabulary;
  }

  // The state before any token: name -> float32 [1, width], all zero.
  initialState() {
    const zeros = ([name, width]) => [name, new this.#ort.Tensor("float32", new Float32Array(width), [1, width])];
    return Object.freeze(Object.fromEntries(Object.entries(this.artifact.states).map(zeros)));
  }

  // Reads tokens. Returns the logits, float32 [vocabulary], of the next token, and the state after the last one.
  async step(tokenIds, state) {
    let result = { logits: null, state };
    this.#check(tokenIds);
    for (let start = 0; start < tokenIds.length; start += CHUNK) {
      const chunk = tokenIds.slice(start, start + CHUNK);
      result = await this.#run(chunk, [1, chunk.length], result.state);
    }
    // A file without the optional input computes all positions.
    return { logits: result.logits.slice(-this.vocabulary.size), state: result.state };
  }

  // Reads a token after each row, { state, row }, in one call. Returns { logits, state, row } for each.
  async stepRows(tokenIds, rows) {
    this.#check(tokenIds);
    const { logits, state } = await this.#run(tokenIds, [rows.length, 1], this.stacked(rows));
    const { size } = this.vocabulary;
    return rows.map((_, row) => ({ logits: logits.subarray(row * size, (row + 1) * size), state, row }));
  }

  // The states of these rows, { state, row } each, as one: name -> float32 [rows, width].
  stacked(rows) {
    const tensors = Object.entries(this.artifact.states).map(([name, width]) => {
      const data = new Float32Array(rows.length * width);
      const found = rows.map(({ state, row }) => state[name].data.subarray(row * width, (row + 1) * width));
      found.forEach((values, place) => data.set(values, place * width));
      return [name, new this.#ort.Tensor("float32", data, [rows.length, width])];
    });
    return Object.freeze(Object.fromEntries(tensors));
  }

  // onnxruntime would read -1 as the last token of the vocabulary.
  #check(tokenIds) {
    const wrong = tokenIds.find((id) => !Number.isInteger(id) || id < 0 || id >= this.vocabulary.size);
    if (wrong !== undefined || tokenIds.length === 0) {
      throw new RangeError(`token ids hold ${wrong ?? "nothing"}, expected some from 0 to ${this.vocabulary.size - 1}`);
    }
  }

  async #run(tokenIds, shape, state) {
    const tensor = new this.#ort.Tensor("int64", BigInt64Array.from(tokenIds, BigInt), shape);
    const results = await this.#session.run({ token_ids: tensor, ...state });
    const next = Object.keys(state).map((name) => [name, results[`next_${name}`]]);
    return { logits: results.logits.data, state: Object.freeze(Object.fromEntries(next)) };
  }

  // Frees the session's memory.
  async release() {
    await this.#session.release();
  }
}
