"""What the JavaScript examples suggest while texts are typed, in node."""

from pathlib import Path
from typing import Any

from support.web.javascript import NODE, evaluate

_TYPED = """
import { Artifact } from "../web/artifact.mjs";
import { Autocompletion } from "../web/autocompletion.mjs";
import { Predictor } from "../web/predictor.mjs";
const ort = await import(given.package);
if (ort.env.wasm) ort.env.wasm.numThreads = 1;
const artifact = await Artifact.read(readFileSync(given.path), given.path);
const autocompletion = new Autocompletion(await Predictor.create(ort, artifact));
const found = [];
for (const text of given.texts) {
  const before = autocompletion.tokensRun;
  const suggestions = await autocompletion[given.method](text, given.count, given.temperature);
  found.push({ suggestions, tokensRun: autocompletion.tokensRun - before, exact: autocompletion.exact });
}
give(found);
"""


def typed(
    path: Path,
    texts: list[str],
    *,
    package: str = "onnxruntime-node",
    method: str = "suggestions",
    count: int = 5,
    temperature: float = 1.0,
    folder: Path = NODE,
) -> list[dict[str, Any]]:
    """The suggestions after each text, whether they are exact, and the number of tokens that ran.

    `method` is one of `Autocompletion`; `folder` has npm's packages, and the modules of the page beside it.
    """
    given = {"package": package, "path": str(path), "texts": texts, "method": method}
    return list(evaluate(_TYPED, {**given, "count": count, "temperature": temperature}, folder))
