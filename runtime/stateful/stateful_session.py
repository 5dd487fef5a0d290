"""Any stateful ONNX file in one onnxruntime session: inputs and states in, outputs and states out, as values."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import checked_bytes, checked_path, wrong_type
from ..arrays import freeze
from ..artifact.safety import find_tensors
from ..errors import ArgumentError, ArtifactError, ForkError, StateError
from ..session.calls import translate_onnxruntime_errors
from ..session.contract import TensorType, Types
from ..session.providers import Provider, placement, provider_named, require_provider
from ..session.session import SessionOptions, declared_types, start_session
from .onnx_file import has_half_weights, read_onnx_file
from .state_pairs import StatePair, may_follow, state_pairs, unpaired_states
from .state_tensors import StateTensors
from .tensor_check import TensorCheck, numpy_type

_MOST_NUMBERS = 2**31
"""In one state; a file may declare any size."""

Arrays = Mapping[str, NDArray[Any]]
"""The name of each input, output or state -> its array."""


@final
class StatefulSession:
    """A recurrent network of any exporter, with states as values; for language models of lmtool use `Predictor`.

    It remembers nothing between calls, and any number of threads may share it. A benchmark reads `inputs` to make
    arrays, which may have any size on axes that have a name there, and carries the state itself; `session` is
    onnxruntime's own, for a bare call.

    Attributes:
        inputs: Name of each input that is no state -> its type: `.dtype`, and `.shape` with a number for each fixed
            axis and a name (perhaps empty) for each free one.
        outputs: Name of each output that holds no state -> its type.
        states: Name of each state input -> its type.
        pairs: Each state's `.input` and the `.output` that holds it after a call.
        provider: Short name of the execution provider that runs it.
        threads: Threads of one call.
        session: onnxruntime's session.

    Example:
        >>> import numpy as np
        >>> from lmtool.runtime import StatefulSession
        >>> session = StatefulSession.load("model.onnx")
        >>> state = None                                                     # begins with zeros
        >>> for tokens in (np.array([[2, 7]]), np.array([[5]])):
        ...     outputs, state = session.run({"token_ids": tokens}, state)
        >>> outputs["logits"].shape[:2]
        (1, 1)
    """

    def __init__(self, session: Any, pairs: tuple[StatePair, ...], provider: Provider, options: SessionOptions) -> None:
        """Use `StatefulSession.load`."""
        inputs = declared_types("input", session.get_inputs())
        outputs = declared_types("output", session.get_outputs())
        state_outputs = {pair.output for pair in pairs}
        self.session = session
        self.pairs = pairs
        self.provider = provider.name
        self.threads = options.threads
        self.states: Types = MappingProxyType({pair.input: inputs[pair.input] for pair in pairs})
        self.inputs: Types = MappingProxyType({name: inputs[name] for name in inputs if name not in self.states})
        self.outputs: Types = MappingProxyType({x: outputs[x] for x in outputs if x not in state_outputs})
        optional = declared_types("overridable input", session.get_overridable_initializers())
        self._input_checks = {name: TensorCheck(kind) for name, kind in {**self.inputs, **optional}.items()}
        self._state_checks = {name: TensorCheck(kind) for name, kind in self.states.items()}
        self._names = [*self.outputs, *(pair.output for pair in pairs)]
        self._process = os.getpid()

    @classmethod
    def load(
        cls,
        source: Path | str | bytes | bytearray | memoryview,
        states: Mapping[str, str] | None = None,
        *,
        provider: str = "cpu",
        threads: int = 1,
        spinning: bool = False,
        memory_arena: bool = False,
        fold_constants: bool = False,
        provider_options: Mapping[str, str] | None = None,
    ) -> "StatefulSession":
        """Load a file, under the rules of `Predictor.load`: all weights inside, the requested provider or an error.

        Its bytes have no hash to check, and its constants may be infinite, as a mask's are.

        Args:
            source: Path or bytes of an ONNX file.
            states: Input -> the output that holds it after the call. None pairs them by names, types and shapes: `h`
                with `next_h` or `hn`, `state` with `stateN`, `past_x` with `present_x`, and so on. An empty mapping
                loads a network without states.
            provider: `cpu`, `cuda`, ... (`lmtool.runtime.PROVIDERS`). Loading fails rather than use another one.
            threads: Threads of one call on the CPU.
            spinning: Busy-wait between calls.
            memory_arena: Keep the memory of the largest call for later calls instead of freeing it.
            fold_constants: Compute at loading what depends on constants only, for files that you trust: a stranger's
                may ask for any memory and time. Calls are faster where a graph computes its weights or shapes.
            provider_options: Options of the provider by onnxruntime's names.

        Raises:
            StorageError: The file cannot be read.
            ArtifactError: It is no ONNX file, is damaged, has weights outside or content that expands beyond its size,
                onnxruntime refuses it, or its names do not say which states there are.
            ProviderError: The provider is not available, or would not run the recurrent layers.
            OptionError: An argument is outside its range, or `states` does not fit the file.
        """
        chosen = provider_named(provider)
        options = SessionOptions(threads, spinning, memory_arena, {} if provider_options is None else provider_options)
        if states is not None and not isinstance(states, Mapping):
            raise wrong_type("states", states, 'a mapping, as {"h": "hn"}')
        is_path = isinstance(source, str | os.PathLike)
        name = str(source) if is_path else "the file"
        data = read_onnx_file(checked_path("source", source)) if is_path else checked_bytes("source", source)
        try:
            session = start_checked(data, chosen, options, fold_constants=fold_constants)
            return cls(session, _pairs(session, states), chosen, options)
        except ArtifactError as error:
            raise ArtifactError(f"{name} ({len(data):,} bytes) cannot be used: {error}") from error

    def __repr__(self) -> str:
        shown = ", ".join(f"{pair.input} -> {pair.output}" for pair in self.pairs)
        return f"<StatefulSession: {shown or 'no states'}; {self.provider}, threads={self.threads}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise ArgumentError("a StatefulSession cannot be pickled; send the path of the file, and load it there")

    @property
    def placement(self) -> dict[str, dict[str, int]]:
        """Where the nodes run: provider -> operator -> number of nodes."""
        return placement(self.session)

    def initial_state(self, inputs: Mapping[str, ArrayLike] | None = None) -> StateTensors:
        """Zeros of every state's type and shape.

        A free axis of a state takes the size of the axis of `inputs` that has its name; without one, the size of the
        first free axis that begins an input, which is the batch; without `inputs`, 1. Where that is not what a network
        means, pass arrays of your own as the state.

        Raises:
            StateError: A state declares no shape, a type without zeros, or a size that no network has.
            ArgumentError: `inputs` do not fit; as for `run`.
        """
        arrays = {} if inputs is None else self._checked_inputs(inputs)
        sizes = self._sizes(arrays)
        begins = [array.shape[0] for name, array in arrays.items() if _begins_free(self._input_checks[name].kind)]
        batch = begins[0] if begins else 1
        return StateTensors({name: _zeros(name, kind, sizes, batch) for name, kind in self.states.items()})

    def run(
        self, inputs: Mapping[str, ArrayLike], state: Mapping[str, NDArray[Any]] | None = None
    ) -> tuple[dict[str, NDArray[Any]], StateTensors]:
        """One call.

        Outputs and states may be NaN or infinite; `StateTensors.require_finite` checks a state.

        Args:
            inputs: Name of each of `inputs` -> an array of its type and fixed sizes, or lists of numbers.
            state: The state before, which is not changed: of a call, or arrays of your own; None begins with
                `initial_state(inputs)`.

        Returns:
            Name of each of `outputs` -> its array, and the state after the call.

        Raises:
            ArgumentError: An input is missing, unknown, or has another type or shape.
            StateError: The state has other names, types or shapes, or another batch size than the inputs.
            ArtifactError: onnxruntime cannot run the graph, or a state comes back in a shape that its input refuses.
            ForkError: This process was forked from the one that loaded the file.
        """
        if os.getpid() != self._process:
            raise ForkError(
                f"the session was started in process {self._process}, this is {os.getpid()}: no session lives on "
                "after a fork; load the file in each process, after the fork"
            )
        arrays = self._checked_inputs(inputs)
        before: Arrays = self.initial_state(arrays) if state is None else state
        self._check_state(before, self._sizes(arrays))
        with translate_onnxruntime_errors():
            results = self.session.run(self._names, {**arrays, **before})
        outputs = dict(zip(self._names, results, strict=True))
        after = {pair.input: outputs.pop(pair.output) for pair in self.pairs}
        for pair in self.pairs:
            if not self._state_checks[pair.input].fits(after[pair.input]):
                raise ArtifactError(
                    f"the output {pair.output!r} is {_shown(after[pair.input])}, which its input {pair.input!r}, "
                    f"{self.states[pair.input]}, refuses; lmtool doctor says why"
                )
        return outputs, StateTensors.made_of(after)

    def _checked_inputs(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        if not isinstance(inputs, Mapping):
            raise wrong_type("inputs", inputs, "a mapping of names to arrays")
        if inputs.keys() != self.inputs.keys():
            missing, unknown = self.inputs.keys() - inputs.keys(), inputs.keys() - self._input_checks.keys()
            if missing or unknown:
                wrong = f"lack {min(missing)!r}" if missing else f"have {min(unknown)!r}"
                raise ArgumentError(f"the inputs {wrong}, expected {', '.join(self._input_checks)}")
        return {name: _as_array(name, value, self._input_checks[name]) for name, value in inputs.items()}

    def _sizes(self, arrays: Arrays) -> dict[str, int]:
        """The sizes of the axes that have a name."""
        checks = self._input_checks
        return {axis: array.shape[place] for name, array in arrays.items() for place, axis in checks[name].names}

    def _check_state(self, state: Arrays, sizes: Mapping[str, int]) -> None:
        if not isinstance(state, Mapping):
            raise StateError(f"the state is {type(state).__name__}, expected a StateTensors; begin with None")
        if state.keys() != self.states.keys():
            raise StateError(
                f"the state holds {', '.join(map(repr, state)) or 'nothing'}, "
                f"expected {', '.join(self.states) or 'nothing'}"
            )
        for name, check in self._state_checks.items():
            array = state[name]
            if not (isinstance(array, np.ndarray) and check.fits(array) and check.has_sizes(array, sizes)):
                raise StateError(f"the state {name!r} is {_shown(array)}, expected {_sized(check.kind, sizes)}")


def start_checked(
    data: bytes, provider: Provider, options: SessionOptions, *, fold_constants: bool = False, silent: bool = False
) -> Any:
    """Check a file of any exporter, and start a session over it; see `start_session`.

    Raises:
        ArtifactError: The file is refused.
        ProviderError: The provider is not available, or would not run the recurrent layers.
    """
    require_provider(provider)
    half = has_half_weights(find_tensors(memoryview(data)))
    # With every optimization onnxruntime 1.31 crashes on half-precision recurrent layers on the CPU.
    level = "ORT_ENABLE_EXTENDED" if half and provider.name == "cpu" else "ORT_ENABLE_ALL"
    return start_session(data, provider, options, level, fold_constants=fold_constants, silent=silent)


def _pairs(session: Any, states: Mapping[str, str] | None) -> tuple[StatePair, ...]:
    inputs = declared_types("input", session.get_inputs())
    outputs = declared_types("output", session.get_outputs())
    pairs = state_pairs(inputs, outputs, states)
    if states is not None:
        return pairs
    followed = {pair.output for pair in pairs}
    for name in unpaired_states(inputs, pairs):
        fitting = [output for output in outputs if output not in followed and may_follow(outputs[output], inputs[name])]
        if fitting:
            raise ArtifactError(
                f"no name says which output follows the state {name!r}; {' or '.join(map(repr, fitting))} fits: "
                f'states={{"{name}": "{fitting[0]}"}}'
            )
    if not pairs:
        raise ArtifactError(
            f"no output is named as one that follows an input (inputs: {', '.join(inputs)}; outputs: "
            f'{", ".join(outputs)}); say which: states={{"input": "output"}}, or {{}} for a network without states'
        )
    return pairs


def _begins_free(kind: TensorType) -> bool:
    return kind.shape is not None and len(kind.shape) > 0 and isinstance(kind.shape[0], str)


def _zeros(name: str, kind: TensorType, sizes: Mapping[str, int], batch: int) -> NDArray[Any]:
    dtype = numpy_type(kind.dtype)
    if kind.shape is None or dtype is None:
        raise StateError(f"the state {name!r} is {kind}, which has no zeros; begin with arrays of your own")
    shape = tuple(sizes.get(axis, batch) if isinstance(axis, str) else axis for axis in kind.shape)
    if math.prod(shape) > _MOST_NUMBERS:
        raise StateError(f"the state {name!r} is {kind}, expected at most {_MOST_NUMBERS:,} numbers")
    return freeze(np.zeros(shape, dtype))


def _sized(kind: TensorType, sizes: Mapping[str, int]) -> TensorType:
    """The type with the sizes of its named axes."""
    axes = kind.shape and tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in kind.shape)
    return TensorType(kind.dtype, axes)


def _as_array(name: str, value: ArrayLike, check: TensorCheck) -> NDArray[Any]:
    array = np.asarray(value) if isinstance(value, np.ndarray | np.generic) else _converted(name, value, check.kind)
    if not check.fits(array):
        raise ArgumentError(f"the input {name!r} is {_shown(array)}, expected {check.kind}")
    return array


def _converted(name: str, value: ArrayLike, kind: TensorType) -> NDArray[Any]:
    """Lists and numbers of Python as the type that the input takes, if that loses nothing."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "f" or np.can_cast(array.dtype, np.dtype(kind.dtype), "same_kind"):
            return array.astype(kind.dtype, casting="same_kind")
        return array
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"the input {name!r} is no array of {kind}: {error}") from error


def _shown(value: object) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
