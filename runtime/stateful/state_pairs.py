"""Pairs state inputs with the outputs that follow them, by names, types and shapes."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import final

from ..errors import ArtifactError, OptionError, counted
from ..session.contract import TensorType, Types

_Words = tuple[str, ...]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_BEFORE = frozenset(["initial", "init", "prev", "previous", "past", "last", "old"])
_AFTER = frozenset(["next", "new", "present", "final", "last", "updated", "n", "y"])
_SIDES = frozenset(["in", "input", "inputs", "out", "output", "outputs"])
_STATE_WORDS = frozenset(
    ["h", "c", "hc", "hidden", "hiddens", "cell", "cells", "state", "states", "memory", "cache", "carry"]
)
_LETTERS = {"hn": "h", "hx": "h", "hy": "h", "ht": "h", "cn": "c", "cx": "c", "cy": "c", "ct": "c"}


@final
@dataclass(frozen=True)
class StatePair:
    """A state.

    Attributes:
        input: The input that takes it.
        output: The output that holds it after the call.
    """

    input: str
    output: str


def state_pairs(inputs: Types, outputs: Types, states: Mapping[str, str] | None = None) -> tuple[StatePair, ...]:
    """The states of a graph, in the order of its inputs.

    An output follows an input if its type and fixed sizes are the same and its name says so: `next_h` or `new_h` after
    `h`, `stateN` after `state`, `hn` after `h` or `h0`, `hidden_out` after `hidden_in`, `present_x` after `past_x`,
    `Y_h` after `initial_h`.

    Args:
        inputs: Name of each input -> its type.
        outputs: Name of each output -> its type.
        states: Input -> output, if the names do not tell; then no name is looked at.

    Raises:
        ArtifactError: Two outputs may follow one input, or one output two inputs.
        OptionError: `states` names an input or output that is none, or two of different types or shapes.
    """
    if states is not None:
        return _checked(inputs, outputs, states)
    pairs: dict[str, str] = {}
    for key in _KEYS:
        before = {name: key(name, _BEFORE) for name in inputs if name not in pairs}
        after = {name: key(name, _AFTER) for name in outputs if name not in pairs.values()}
        found = [
            (name, output)
            for name, words in before.items()
            for output, others in after.items()
            if words and words == others and may_follow(outputs[output], inputs[name])
        ]
        _require_unique(found)
        pairs.update(found)
    return tuple(StatePair(name, pairs[name]) for name in inputs if name in pairs)


def unpaired_states(inputs: Types, pairs: Iterable[StatePair]) -> list[str]:
    """Inputs whose names say that they are states, but that no output follows."""
    paired = {pair.input for pair in pairs}
    return [name for name in inputs if name not in paired and _is_state(_letters(name, _BEFORE))]


def may_follow(output: TensorType, state: TensorType) -> bool:
    """Whether type, rank and the sizes that both declare are the same."""
    if output.dtype != state.dtype:
        return False
    if output.shape is None or state.shape is None:
        return True
    sizes = [pair for pair in zip(output.shape, state.shape, strict=False) if all(isinstance(x, int) for x in pair)]
    return len(output.shape) == len(state.shape) and all(after == before for after, before in sizes)


def _words(name: str) -> _Words:
    """`stateN` -> state, n; `next_h0` -> next, h, 0."""
    return tuple(word.lower() for word in _WORD.findall(name))


def _is_state(words: _Words) -> bool:
    return not _STATE_WORDS.isdisjoint(words)


def _plain(name: str, markers: frozenset[str]) -> _Words:
    """The words of a name without those that say before or after."""
    return tuple(word for word in _words(name) if word not in markers)


def _sided(name: str, markers: frozenset[str]) -> _Words:
    """As `_plain`, without `in` and `out`, which other tensors have too: only of names of states."""
    words = tuple(word for word in _plain(name, markers) if word not in _SIDES)
    return words if _is_state(words) else ()


def _letters(name: str, markers: frozenset[str]) -> _Words:
    """As `_sided`, with `hn` and `hx` as `h`."""
    words = tuple(_LETTERS.get(word, word) for word in _plain(name, markers) if word not in _SIDES)
    return words if _is_state(words) else ()


def _unnumbered(name: str, markers: frozenset[str]) -> _Words:
    """As `_letters`, without a number at the end: `h_n` follows `h_0`."""
    words = _letters(name, markers)
    return words[:-1] if words and words[-1].isdecimal() else words


_KEYS: tuple[Callable[[str, frozenset[str]], _Words], ...] = (_plain, _sided, _letters, _unnumbered)
"""What the names of an input and of the output after it share; the surest first."""


def _require_unique(found: list[tuple[str, str]]) -> None:
    for side, other in ((0, 1), (1, 0)):
        for name, count in Counter(pair[side] for pair in found).items():
            if count > 1:
                names = ", ".join(repr(pair[other]) for pair in found if pair[side] == name)
                kind = "follow the input" if side == 0 else "come before the output"
                raise ArtifactError(f'{names} may {kind} {name!r}; say which: states={{"input": "output"}}')


def _checked(inputs: Types, outputs: Types, states: Mapping[str, str]) -> tuple[StatePair, ...]:
    for name, output in states.items():
        for kind, given, known in (("input", name, inputs), ("output", output, outputs)):
            if given not in known:
                raise OptionError(f"states names the {kind} {given!r}, expected one of {', '.join(known) or 'none'}")
        if not may_follow(outputs[output], inputs[name]):
            raise OptionError(
                f"states pairs {name!r}, {inputs[name]}, with {output!r}, {outputs[output]}; "
                "expected the same type and shape"
            )
    if len(set(states.values())) < len(states):
        raise OptionError(f"states names {counted(len(states), 'input')}, but one output twice")
    return tuple(StatePair(name, states[name]) for name in inputs if name in states)
