"""npm packages that stand in for onnxruntime's: what a test wants of one, and nothing behind it."""

from pathlib import Path

ECHO = "return Object.fromEntries(outputs.map((name) => [name, feed[name]]));"
"""The outputs are the inputs of the same names."""

_PACKAGE = """
exports.env = { versions: { node: "9.8.7", web: "9.8.6" }, wasm: {} };
exports.Tensor = class { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } };
exports.InferenceSession = {
  create: async (artifact, options) => ({ run: async (feed, outputs) => { %s } }),
};
"""


def write_package(folder: Path, name: str, run: str = ECHO, start: str = "") -> None:
    """A package in `folder`, with the body of a session's `run(feed, outputs)` and what it does when it is loaded."""
    place = folder / "node_modules" / name
    place.mkdir(parents=True)
    (place / "index.js").write_text(start + _PACKAGE % run)
