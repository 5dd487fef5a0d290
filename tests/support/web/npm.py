"""Stand-ins for onnxruntime's npm packages."""

from pathlib import Path

ECHO = "return Object.fromEntries(outputs.map((name) => [name, feed[name]]));"
"""Body of `run`: each output equals the input of the same name."""

_PACKAGE = """
exports.env = { versions: { node: "9.8.7", web: "9.8.6" }, wasm: {} };
exports.Tensor = class { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } };
exports.InferenceSession = {
  create: async (artifact, options) => ({ run: async (feed, outputs) => { %s } }),
};
"""


def write_package(folder: Path, name: str, run: str = ECHO, start: str = "") -> None:
    """Write a package into `folder`: `run` is the body of a session's `run(feed, outputs)`, `start` runs on import."""
    place = folder / "node_modules" / name
    place.mkdir(parents=True)
    (place / "index.js").write_text(start + _PACKAGE % run)
