"""Starts onnxruntime sessions: the requested provider or an error, explicit threads, no external files."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from ..arguments import checked_flag, checked_integer, checked_text, freeze_fields, wrong_type
from ..artifact.artifact import LOGITS_TO_KEEP, Artifact
from ..errors import ArtifactError, OptionError, ProviderError, truncated
from .calls import Graph
from .contract import TensorType, require_contract
from .cuda import load_libraries
from .device import DeviceRunner
from .host import HostRunner
from .log_probs import LogProbs
from .providers import PROVIDERS, Provider, fault_of, import_onnxruntime, require_placement, require_provider

MAX_THREADS = 1024
"""onnxruntime starts any number of threads and hangs."""

_ERRORS_ONLY, FATAL_ONLY = 3, 4
_NOWHERE = f"{__file__}/none"
"""A folder that cannot exist, as it is below a file."""


def check_threads(threads: int) -> None:
    """Raise OptionError for a number of threads outside its range."""
    checked_integer("threads", threads)
    if not 1 <= threads <= MAX_THREADS:
        raise OptionError(f"threads is {threads}, expected 1 to {MAX_THREADS:,}")


@final
@dataclass(frozen=True)
class SessionOptions:
    """Threads, memory and provider options; the defaults suit an application that does other things too.

    Attributes:
        threads: Threads of one call on the CPU.
        spinning: Busy-wait between calls: faster calls with several threads, at the cost of other processes.
        memory_arena: Keep the memory of the largest call on the CPU for later calls instead of freeing it.
        provider_options: Options of the execution provider, by onnxruntime's names: `{"device_id": "1"}`.
    """

    threads: int = 1
    spinning: bool = False
    memory_arena: bool = False
    provider_options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise OptionError for an invalid `threads` or `device_id`; onnxruntime does not check them."""
        check_threads(self.threads)
        checked_flag("spinning", self.spinning)
        checked_flag("memory_arena", self.memory_arena)
        if not isinstance(self.provider_options, Mapping):
            raise wrong_type("provider_options", self.provider_options, 'a mapping, as {"device_id": "1"}')
        freeze_fields(self, provider_options=dict(self.provider_options))
        for name, value in self.provider_options.items():
            checked_text(f"provider_options[{name!r}]", value, 'write numbers as text: {"device_id": "1"}')
        device = self.provider_options.get("device_id", "0")
        if not str(device).isdecimal():
            raise OptionError(f"device_id is {device!r}, expected a number from 0")


def create_session(data: bytes, artifact: Artifact, provider: Provider, options: SessionOptions) -> Any:
    """Start a session over an artifact and check its inputs and outputs against the metadata.

    Raises:
        ProviderError: onnxruntime or the provider is missing, or the provider does not run the heavy nodes.
        ArtifactError: onnxruntime refuses the graph, or its inputs and outputs break the contract.
    """
    require_provider(provider)
    # With every optimization onnxruntime 1.31 crashes on half-precision recurrent layers on the CPU.
    level = "ORT_ENABLE_EXTENDED" if artifact.precision == "fp16" and provider.name == "cpu" else "ORT_ENABLE_ALL"
    session = start_session(data, provider, options, level, guard_saturation=not artifact.is_static)
    require_contract(
        declared_types("input", session.get_inputs()),
        declared_types("overridable input", session.get_overridable_initializers()),
        declared_types("output", session.get_outputs()),
        artifact.architecture.states,
        len(artifact.vocabulary),
    )
    return session


def create_runner(
    session: Any, artifact: Artifact, provider: Provider, options: SessionOptions
) -> HostRunner | DeviceRunner:
    """The runner of a session: on numpy arrays, or on the provider's device."""
    can_keep = LOGITS_TO_KEEP in declared_types("overridable input", session.get_overridable_initializers())
    graph = Graph(artifact.architecture.states, len(artifact.vocabulary), can_keep)
    scorer = LogProbs(functools.partial(start_session, provider=provider, options=options))
    if provider.device is None:
        return HostRunner(session, graph, scorer)
    device = (provider.device, int(options.provider_options.get("device_id", 0)))
    return DeviceRunner(session, graph, device, scorer)


def plain_session(data: bytes, threads: int = 1) -> Any:
    """Start a CPU session without graph optimizations.

    It overflows on x86-64 without VNNI where uint8 activations meet int8 weights; see `lmtool.export.unsigned_weights`.

    Raises:
        ProviderError: onnxruntime is missing.
        ArtifactError: It refuses the file.
    """
    return start_session(data, PROVIDERS["cpu"], SessionOptions(threads), "ORT_DISABLE_ALL")


def start_session(
    data: bytes,
    provider: Provider,
    options: SessionOptions,
    level: str = "ORT_ENABLE_ALL",
    *,
    guard_saturation: bool = True,
    fold_constants: bool = False,
    silent: bool = False,
) -> Any:
    """Start a session over an ONNX file; the only place that makes one.

    Args:
        data: The file, which holds all of its weights.
        provider: Execution provider.
        options: Threads, memory and provider options.
        level: Name of one of onnxruntime's graph optimization levels.
        guard_saturation: Compute products with int8 weights exactly, but slower, where their pairs may exceed 16 bits.
        fold_constants: Compute constant expressions at loading, which takes any memory and time that the file asks for.
        silent: Let onnxruntime print no errors, beside those that it raises.

    Raises:
        ProviderError: onnxruntime is missing, or the provider does not run the heavy nodes.
        ArtifactError: onnxruntime refuses the file.
    """
    onnxruntime = import_onnxruntime()
    if provider.name in ("cuda", "tensorrt"):
        load_libraries(onnxruntime)
    chosen: list[Any] = [(provider.onnxruntime_name, {**provider.options, **options.provider_options})]
    if provider.name != "cpu":
        chosen.append(PROVIDERS["cpu"].onnxruntime_name)
    settings = _settings(onnxruntime, options, guard_saturation)
    if silent:
        settings.log_severity_level = FATAL_ONLY
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    try:
        # Without `enable_fallback` onnxruntime continues on another provider when one fails.
        session = onnxruntime.InferenceSession(
            data,
            settings,
            providers=chosen,
            enable_fallback=0,
            disabled_optimizers=[] if fold_constants else ["ConstantFolding"],
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        version = onnxruntime.__version__
        if provider.name != "cpu":
            fault = fault_of(provider)
            raise ProviderError(
                f"onnxruntime {version} cannot run the artifact on {provider.name}: "
                f"{f'{fault} ({truncated(error)})' if fault else truncated(error)}"
            ) from error
        raise ArtifactError(f"onnxruntime {version} cannot load the artifact: {truncated(error)}") from error
    # onnxruntime has made a copy; its wrapper keeps the bytes only to fall back to another provider.
    session._model_bytes = None
    require_placement(session, provider)
    return session


def _settings(onnxruntime: Any, options: SessionOptions, guard_saturation: bool) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.enable_cpu_mem_arena = options.memory_arena
    # Hides the warning at loading that logits_to_keep can be overridden.
    settings.log_severity_level = _ERRORS_ONLY
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spinning)))
    # Keeps onnxruntime from reading unchecked bytes as its own format.
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # x86-64 without VNNI sums pairs of uint8 times int8 in 16 bits, which saturate. This makes int8 weights uint8, from
    # ORT_ENABLE_EXTENDED on, and products slower.
    settings.add_session_config_entry("session.x64quantprecision", str(int(guard_saturation)))
    # Otherwise a file loaded from bytes reads external weights from the current folder.
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    return settings


def declared_types(kind: str, nodes: list[Any]) -> dict[str, TensorType]:
    """The name of each input or output of a session -> its type.

    Raises:
        ArtifactError: A name is not UTF-8, which onnxruntime accepts.
    """
    try:
        return {node.name: _type(node) for node in nodes}
    except UnicodeDecodeError as error:
        raise ArtifactError(f"an {kind} of the graph has a name that is not UTF-8 ({error}), expected text") from error


def _type(node: Any) -> TensorType:
    name = str(node.type).removeprefix("tensor(").removesuffix(")")
    shape = tuple("" if axis is None else axis for axis in node.shape)
    return TensorType({"float": "float32", "double": "float64"}.get(name, name), shape)
