"""An onnxruntime session made for one artifact: providers strict, threads explicit, nothing read beside the file."""

import tempfile
from typing import Any

from .artifact import Artifact
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


def _require_contract(session: Any, artifact: Artifact) -> None:
    states = artifact.architecture.states
    expected_inputs = {"token_ids": "tensor(int64)"} | dict.fromkeys(states, "tensor(float)")
    expected_outputs = dict.fromkeys(["logits", *(f"next_{name}" for name in states)], "tensor(float)")
    for kind, expected, nodes in (
        ("input", expected_inputs, session.get_inputs()),
        ("output", expected_outputs, session.get_outputs()),
    ):
        found = {node.name: node.type for node in nodes}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise ArtifactError(
                    f"the {kind} {name!r} breaks the contract: "
                    f"found {found.get(name, 'none')}, expected {expected.get(name, 'none')}"
                )
    for node in session.get_inputs():
        width = states.get(node.name)
        if width is not None and (len(node.shape) != 2 or node.shape[1] != width):
            raise ArtifactError(f"the input {node.name!r} has the shape {node.shape}, expected [batch, {width}]")
