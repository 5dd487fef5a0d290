// The protobuf wire format, as far as the outline of an ONNX file needs it.
//
// A message is a run of fields, each a key (number and wire type) and a value: a varint, 4 or 8 bytes, or a length and
// that many bytes. See https://protobuf.dev/programming-guides/encoding/.
import { ArtifactError } from "./errors.mjs";

const VARINT = 0,
  FIXED64 = 1,
  BYTES = 2,
  FIXED32 = 5;
const FIXED_SIZES = { [FIXED64]: 8, [FIXED32]: 4 };
const LONGEST_VARINT = 10;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// Each field of the message in bytes[start, end): its number, and a varint's value or the span of its bytes.
// Nothing is copied, so weights take no memory.
export function* fields(bytes, start = 0, end = bytes.length) {
  for (let position = start; position < end;) {
    const [key, after] = varint(bytes, position, end);
    const field = readValue(bytes, Math.floor(key / 8), key % 8, after, end);
    yield field;
    position = field.end;
  }
}

function readValue(bytes, number, type, position, end) {
  let field = null;
  if (type === VARINT) {
    const [value, after] = varint(bytes, position, end);
    field = { number, value, start: position, end: after };
  } else if (type === BYTES) {
    const [size, start] = varint(bytes, position, end);
    field = { number, value: 0, start, end: start + size };
  } else if (type in FIXED_SIZES) {
    field = { number, value: 0, start: position, end: position + FIXED_SIZES[type] };
  }
  if (field === null || number === 0 || field.end > end) throw damaged(position);
  return field;
}

function varint(bytes, start, end) {
  let value = 0;
  for (let index = 0; index < LONGEST_VARINT && start + index < end; index++) {
    const byte = bytes[start + index];
    value += (byte & 0x7f) * 2 ** (7 * index);
    if (byte < 0x80) return [value, start + index + 1];
  }
  throw damaged(start);
}

// The field's bytes as UTF-8 text.
export function text(bytes, { start, end }) {
  try {
    return decoder.decode(bytes.subarray(start, end));
  } catch {
    throw damaged(start);
  }
}

function damaged(position) {
  const found = `it is no ONNX file, or is damaged at byte ${position.toLocaleString("en")}`;
  return new ArtifactError(`${found}; expected a file of lmtool export: copy or export it again`);
}
