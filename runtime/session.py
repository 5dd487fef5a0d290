"""An onnxruntime session made for one artifact: providers strict, threads explicit, nothing read beside the file."""

import tempfile
from typing import Any

from .artifact import LOGITS, NEXT, TOKEN_IDS, Artifact
from .errors import ArtifactError, OptionError
from .providers import PROVIDERS, Provider, import_onnxruntime, require_placement, require_provider

_ERRORS_ONLY = 3


def create_session(data: bytes, artifact: Artifact, provider: Provider, threads: int) -> Any:
    """Start a session over the file's bytes and check that its graph is what the metadata says.

    Raises:
        OptionError: `threads` is below 1.
        ProviderError: onnxruntime is missing, or the provider is or does not take the heavy nodes.
        ArtifactError: onnxruntime refuses the graph, or its inputs and outputs break the contract.
    """
    if threads < 1:
        raise OptionError(f"threads is {threads}, expected 1 or more")
    require_provider(provider)
    onnxruntime = import_onnxruntime()
    if provider.name in ("cuda", "tensorrt"):
        onnxruntime.preload_dlls()
    chosen: list[Any] = [(provider.onnxruntime_name, dict(provider.options))]
    if provider.name != "cpu":
        chosen.append(PROVIDERS["cpu"].onnxruntime_name)
    with tempfile.TemporaryDirectory() as empty:
        try:
            options = _options(onnxruntime, threads, empty)
            if artifact.precision == "fp16" and provider.name == "cpu":
                # With every optimization onnxruntime 1.31 crashes on half-precision recurrent layers on the CPU.
                options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            session = onnxruntime.InferenceSession(data, options, providers=chosen)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ArtifactError(f"onnxruntime {onnxruntime.__version__} cannot load the artifact: {error}") from error
    require_placement(session, provider)
    _require_contract(session, artifact)
    return session


def _options(onnxruntime: Any, threads: int, empty_folder: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Loading warns that logits_to_keep can be overridden, which is what it is for.
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # A file loaded from bytes would look for external weights in the current folder.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", empty_folder)
    return options


_Node = tuple[str, list[str | int]]
_Nodes = dict[str, _Node]
"""Name of an input or output -> its type and shape."""


def _require_contract(session: Any, artifact: Artifact) -> None:
    """Compare names, types and shapes with the metadata; a free axis fits anything."""
    states: _Nodes = {name: ("tensor(float)", ["batch", width]) for name, width in artifact.architecture.states.items()}
    logits: _Node = ("tensor(float)", ["batch", "kept", len(artifact.vocabulary)])
    inputs: _Nodes = {TOKEN_IDS: ("tensor(int64)", ["batch", "time"]), **states}
    outputs: _Nodes = {
        LOGITS: logits,
        **{f"{NEXT}{name}": kind for name, kind in states.items()},
    }
    _require_nodes("input", inputs, session.get_inputs())
    _require_nodes("output", outputs, session.get_outputs())


def _require_nodes(kind: str, expected: _Nodes, nodes: list[Any]) -> None:
    found = {node.name: (node.type, node.shape) for node in nodes}
    for name in sorted(expected.keys() | found.keys()):
        if name not in expected or name not in found or not _fits(found[name], expected[name]):
            raise ArtifactError(
                f"the {kind} {name!r} breaks the contract: found {_shown(found.get(name))}, "
                f"expected {_shown(expected.get(name))}"
            )


def _fits(found: _Node, expected: _Node) -> bool:
    pairs = zip(found[1], expected[1], strict=False)
    same = all(theirs == ours for theirs, ours in pairs if isinstance(theirs, int) or isinstance(ours, int))
    return found[0] == expected[0] and len(found[1]) == len(expected[1]) and same


def _shown(kind: _Node | None) -> str:
    return "none" if kind is None else f"{kind[0]} [{', '.join(map(str, kind[1]))}]"
