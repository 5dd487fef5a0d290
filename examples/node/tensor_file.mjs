// A tensor in a file of ONNX's standard test data: one TensorProto message.
import { readFile } from "node:fs/promises";

import { fields, text } from "../web/wire.mjs";

const DIMS = 1,
  DATA_TYPE = 2,
  NAME = 8,
  RAW_DATA = 9; // field numbers of the message
const TYPES = {
  1: { type: "float32", array: Float32Array },
  7: { type: "int64", array: BigInt64Array },
};

// { name, type, dims, data } of the tensor in the file at `path`.
export async function readTensor(path) {
  const bytes = new Uint8Array(await readFile(path));
  const found = { dims: [], name: "", data: new Uint8Array() };
  let kind;
  for (const field of fields(bytes)) {
    if (field.number === DIMS) found.dims.push(field.value);
    else if (field.number === DATA_TYPE) kind = TYPES[field.value];
    else if (field.number === NAME) found.name = text(bytes, field);
    else if (field.number === RAW_DATA) found.data = bytes.slice(field.start, field.end);
  }
  const size = found.dims.reduce((product, length) => product * length, 1);
  if (kind === undefined || found.data.length !== size * kind.array.BYTES_PER_ELEMENT) {
    const held = `${found.data.length} raw bytes for [${found.dims}]`;
    throw new Error(`${path} holds ${held}, expected a float32 or int64 tensor in raw_data`);
  }
  return { ...found, type: kind.type, data: new kind.array(found.data.buffer) };
}
