// What onnxruntime's npm packages do for the harness, in node and in a browser: calls, and the messages around them.
//
// A message is the length of its header (4 bytes, little-endian), the header (JSON), and the bytes of the tensors in the
// header's `tensors`.
const ARRAYS = { float32: Float32Array, int64: BigInt64Array };

export const ERRORS_ONLY = 3; // log level; loading warns about the input with a default

// As an application does: typed arrays become tensors, the session runs, typed arrays come out. With targets, their
// log-probabilities replace the logits. `now` reads a clock in nanoseconds.
export async function call(ort, session, { outputs, tensors }, now) {
  const start = now();
  const feed = {};
  for (const { name, type, shape, data } of tensors) feed[name] = new ort.Tensor(type, data, shape);
  const { targets } = feed;
  delete feed.targets;
  const results = await session.run(feed, outputs);
  const data = outputs.map((name) => results[name].data); // now in host memory, wherever it was computed
  const scored = targets && logProbs(results.logits, targets);
  const nanoseconds = now() - start;
  const arrays = outputs.map((name, index) => ({ type: results[name].type, shape: results[name].dims, data: data[index] }));
  return { nanoseconds, tensors: scored ? [scored, ...arrays.slice(1)] : arrays };
}

// Log-probability float64 [batch, time] of each target in logits float32 [batch, time, vocabulary].
function logProbs({ dims: [batch, time, vocabulary], data }, targets) {
  const logProbabilities = new Float64Array(batch * time);
  for (let position = 0; position < logProbabilities.length; position++) {
    const begin = position * vocabulary;
    let largest = -Infinity;
    for (let token = begin; token < begin + vocabulary; token++) if (data[token] > largest) largest = data[token];
    let sum = 0;
    for (let token = begin; token < begin + vocabulary; token++) sum += Math.exp(data[token] - largest);
    logProbabilities[position] = data[begin + Number(targets.data[position])] - largest - Math.log(sum);
  }
  return { type: "float64", shape: [batch, time], data: logProbabilities };
}

// The parts of a message, each a typed array.
export function pack(header, tensors = []) {
  const shapes = tensors.map(({ type, shape }) => ({ type, shape }));
  const text = new TextEncoder().encode(JSON.stringify({ ...header, tensors: shapes }));
  const size = new DataView(new ArrayBuffer(4));
  size.setUint32(0, text.length, true);
  return [new Uint8Array(size.buffer), text, ...tensors.map(({ data }) => data)];
}

// The header with its tensors filled; read(size) gives the next bytes as a separate Uint8Array, so that they are
// aligned, or null at the end, where the message is null too.
export function unpack(read) {
  const size = read(4);
  if (size === null) return null;
  const header = JSON.parse(new TextDecoder().decode(read(new DataView(size.buffer).getUint32(0, true))));
  const tensors = header.tensors.map(({ name, type, shape }) => {
    const elements = shape.reduce((product, length) => product * length, 1);
    return { name, type, shape, data: new ARRAYS[type](read(elements * ARRAYS[type].BYTES_PER_ELEMENT).buffer) };
  });
  return { ...header, tensors };
}
