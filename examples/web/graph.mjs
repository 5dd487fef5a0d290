// The outline of an ONNX graph: its inputs and outputs, and the default of an optional input. No weight is read.
import { ArtifactError } from "./errors.mjs";
import { fields, text } from "./wire.mjs";

const TYPES = { 1: "float32", 7: "int64" };
// Field numbers of ONNX's messages.
const GRAPH = { initializer: 5, input: 11, output: 12 };
const TENSOR = { name: 8, rawData: 9, externalData: 13, dataLocation: 14 };
const VALUE = { name: 1, type: 2 };

const nested = (bytes, { start, end }, number) =>
  [...fields(bytes, start, end)].filter((field) => field.number === number);

// The graph in this field: { inputs, outputs, defaults }. Inputs and outputs: name -> { type, shape } (a free axis is
// null); defaults: name of an initializer -> span of its raw bytes, or null.
export function readGraph(bytes, graph) {
  const found = { inputs: {}, outputs: {}, defaults: new Map() };
  for (const field of fields(bytes, graph.start, graph.end)) {
    if (field.number === GRAPH.initializer) found.defaults.set(...readInitializer(bytes, field));
    else if (field.number === GRAPH.input) addValue(found.inputs, bytes, field);
    else if (field.number === GRAPH.output) addValue(found.outputs, bytes, field);
  }
  return found;
}

function readInitializer(bytes, tensor) {
  let name = "",
    raw = null;
  for (const field of fields(bytes, tensor.start, tensor.end)) {
    if (field.number === TENSOR.externalData || (field.number === TENSOR.dataLocation && field.value !== 0)) {
      throw new ArtifactError("a weight lies outside the file; an artifact holds all of its weights");
    }
    if (field.number === TENSOR.name) name = text(bytes, field);
    if (field.number === TENSOR.rawData) raw = field;
  }
  return [name, raw];
}

function addValue(values, bytes, field) {
  const [name] = nested(bytes, field, VALUE.name);
  const [type] = nested(bytes, field, VALUE.type);
  const [tensor] = type ? nested(bytes, type, 1) : [];
  if (!name || !tensor) throw new ArtifactError("an input or output of its graph has no name, or is no tensor");
  const [element] = nested(bytes, tensor, 1);
  const [shape] = nested(bytes, tensor, 2);
  const axes = shape ? nested(bytes, shape, 1) : [];
  values[text(bytes, name)] = {
    type: TYPES[element?.value] ?? `type ${element?.value}`,
    shape: axes.map((axis) => nested(bytes, axis, 1)[0]?.value ?? null),
  };
}
