"""The layouts of state_dicts: which tensor has which role, by the names that programs give and by shapes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, final

from ...runtime.errors import OptionError, truncated
from ..errors import WeightsError
from .parts import Layer, Parts, listed, require_room
from .weights_file import WeightsFile

ROLES = ("embedding", "layers", "projection")
"""Parts of a network whose modules can be named."""


@final
@dataclass(frozen=True)
class Layout:
    """How a program names the modules of its network.

    Attributes:
        name: Its name for `--layout`.
        program: Where it is from.
        embedding: Regular expression of the embedding's name, without `.weight` and without a prefix of all names.
        layers: Of a recurrent layer's; numbers in it order the layers.
        projection: Of the projection's.
        copies: Of modules that hold the embedding once more.
    """

    name: str
    program: str
    embedding: str
    layers: str
    projection: str
    copies: str = field(default=r"(?!)")


_EMBEDDINGS = r"\w*emb\w*|encoder|lookup\w*|lut|vectors?|wte"
_PROJECTIONS = r"decoder|fc\w*|\w*linear\w*|out\w*|\w*proj\w*|\w*head|dense\w*|classifier|generator|logits|h2o"

LAYOUTS = (
    Layout("word_language_model", "pytorch/examples", "encoder", "rnn", "decoder"),
    Layout("awd-lstm-lm", "salesforce/awd-lstm-lm", "encoder", r"rnns\.\d+", "decoder"),
    Layout("fastai", "fast.ai's AWD_LSTM", r"0\.encoder", r"0\.rnns\.\d+", r"1\.decoder", r"0\.encoder_dp\.emb"),
    Layout("icefall", "icefall's RnnLmModel", "input_embedding", "rnn", "output_linear"),
    Layout("pytorch", "other PyTorch modules", rf"(?:.*\.)?(?:{_EMBEDDINGS})", ".*", rf"(?:.*\.)?(?:{_PROJECTIONS})"),
)
"""The first that fits is taken; the last is the widest."""

KERAS = "keras"
LAYOUT_NAMES = (*(layout.name for layout in LAYOUTS), KERAS)

_RECURRENT = re.compile(
    r"(?:(?P<module>.*)\.)?(?P<kind>weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(?:_l(?P<layer>\d+))?"
    r"(?P<suffix>_reverse|_raw)?"
)
_REFUSED = {
    "weight_hr": "its LSTM has a projection (proj_size), which artifacts cannot have",
    "_reverse": "its recurrent layer is bidirectional: it reads the text's end first, so it cannot be streamed",
}
_MOST_CHARACTERS = 300
_LAYER_ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Names(NamedTuple):
    """The tensor of each role."""

    embedding: str | None
    layers: list[dict[str, str]]
    projection: str | None
    bias: str | None
    copies: list[str]


class _Misfit(Exception):  # noqa: N818 (no error yet: another layout may fit)
    """Why a layout does not fit."""


def read_parts(file: WeightsFile, layout: str | None, modules: Mapping[str, str]) -> tuple[Parts, str]:
    """The parts of the network in a file, and the name of its layout.

    Args:
        file: The tensors.
        layout: One of `LAYOUTS`, by name; None for the first that fits.
        modules: Role -> the name of its module, for those that no layout knows; of several layers, with commas.

    Raises:
        OptionError: There is no such layout, role or module.
        WeightsError: No layout fits, a tensor is missing, foreign or damaged, or shapes do not fit.
    """
    chosen = _with_modules(_chosen(layout), modules, file.shapes)
    reasons = []
    for candidate in chosen:
        try:
            return _read(file, _names(candidate, modules, file.shapes)), candidate.name
        except _Misfit as misfit:
            reasons.append(f"{candidate.name}: {misfit}")
    raise WeightsError(
        f"{file.path} fits no layout of {', '.join(each.name for each in chosen)}; {reasons[-1]}. Name what it cannot "
        f"tell, for example --module projection=NAME (roles: {', '.join(ROLES)}). Its tensors:\n{listed(file.shapes)}"
    )


def _chosen(layout: str | None) -> list[Layout]:
    found = [each for each in LAYOUTS if layout in (None, each.name)]
    if not found:
        raise OptionError(f"there is no layout {layout!r} for this file, expected one of {', '.join(LAYOUT_NAMES)}")
    return found


def _with_modules(layouts: list[Layout], modules: Mapping[str, str], names: Iterable[str]) -> list[Layout]:
    """The layouts; with named modules the widest of them, with those names."""
    if not modules:
        return layouts
    if unknown := sorted(modules.keys() - set(ROLES)):
        raise OptionError(f"{unknown[0]!r} is no part of a network, expected one of {', '.join(ROLES)}")
    owners = {name.rpartition(".")[0] for name in names}
    for role, module in modules.items():
        for part in module.split(","):
            if part not in owners:
                raise OptionError(f"there is no module {part!r} for {role}; modules: {_listed(sorted(owners))}")
    patterns = {role: "|".join(map(re.escape, module.split(","))) for role, module in modules.items()}
    return [replace(layouts[-1], **patterns)]


def _names(layout: Layout, modules: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> _Names:
    """The tensor of each role; _Misfit if the layout has another one, or none."""
    start = "" if modules else _common_prefix(shapes)
    layers: dict[tuple[str, int], dict[str, str]] = {}
    others = []
    for name in shapes:
        found = _RECURRENT.fullmatch(name[len(start) :])
        if found is None:
            others.append(name)
            continue
        for key in (found["kind"], found["suffix"]):
            if key in _REFUSED:
                raise WeightsError(f"the tensor {name!r} [{', '.join(map(str, shapes[name]))}]: {_REFUSED[key]}")
        module = (found["module"] or "").removesuffix(".module")
        if not re.fullmatch(layout.layers, module):
            raise _Misfit(f"{name} is no layer of it")
        roles = layers.setdefault((module, int(found["layer"] or 0)), {})
        if found["suffix"] == "_raw" or found["kind"] not in roles:  # weight dropout keeps a dropped copy beside it
            roles[found["kind"]] = name
    return _with_others(layout, start, others, _in_order(layers, modules.get("layers", "")), shapes)


def _with_others(
    layout: Layout,
    start: str,
    others: list[str],
    layers: list[dict[str, str]],
    shapes: Mapping[str, tuple[int, ...]],
) -> _Names:
    found: dict[str, list[str]] = {"embedding": [], "projection": [], "projection's bias": []}
    copies, foreign = [], []
    for name in others:
        module, _, kind = name[len(start) :].rpartition(".")
        is_linear = f"{start}{module}.bias" in shapes
        if kind == "weight" and not is_linear and re.fullmatch(layout.embedding, module):
            found["embedding"].append(name)
        elif kind in ("weight", "bias") and re.fullmatch(layout.projection, module):
            found["projection" if kind == "weight" else "projection's bias"].append(name)
        elif re.fullmatch(layout.copies, module):
            copies.append(name)
        else:
            foreign.append(name)
    if foreign:
        raise _Misfit(f"it has no place for {_listed(foreign)}")
    for role, tensors in found.items():
        if len(tensors) > 1:
            raise _Misfit(f"{_listed(tensors)} may each be the {role}")
    embedding, projection, bias = (next(iter(tensors), None) for tensors in found.values())
    if embedding is None and projection is None:
        raise _Misfit("embedding and projection are missing")
    if projection is None and bias is None:
        raise _Misfit("the projection is missing")
    return _Names(embedding, layers, projection, bias, copies)


def _in_order(layers: Mapping[tuple[str, int], dict[str, str]], named: str) -> list[dict[str, str]]:
    """The layers, first to last: as named, else by the numbers in their names.

    Raises:
        _Misfit: Names without numbers do not order them, or a tensor of one is missing.
    """
    modules = {module for module, _ in layers}
    order = named.split(",")
    if not named and len({re.sub(r"[\d._]+", " ", module).strip() for module in modules}) > 1:
        names = truncated(",".join(sorted(modules)), _MOST_CHARACTERS)
        raise _Misfit(f"the order of the layers is not known; name them: --module layers={names}")
    for (module, index), roles in layers.items():
        expected = _LAYER_ROLES if roles.keys() & {"bias_ih", "bias_hh"} else _LAYER_ROLES[:2]
        if missing := [role for role in expected if role not in roles]:
            raise _Misfit(f"layer {index} of {module or 'the network'} lacks {' and '.join(missing)}")

    def place(key: tuple[str, int]) -> tuple[list[int], int]:
        numbers = [int(number) for number in re.findall(r"\d+", key[0])]
        return ([order.index(key[0])] if named else numbers), key[1]

    return [layers[key] for key in sorted(layers, key=place)]


def _read(file: WeightsFile, names: _Names) -> Parts:
    require_room(file.shapes)
    layers = tuple(
        Layer(
            file.read(roles["weight_ih"]),
            file.read(roles["weight_hh"]),
            *(file.read(roles[role]) if role in roles else None for role in ("bias_ih", "bias_hh")),
        )
        for roles in names.layers
    )
    embedding, projection, bias = (
        None if name is None else file.read(name) for name in (names.embedding, names.projection, names.bias)
    )
    for copy in names.copies:
        if embedding is None or not file.read(copy).equal(embedding):
            raise WeightsError(f"the tensor {copy!r} of {file.path} is not the copy of the embedding that it should be")
    if embedding is None:  # safetensors keeps one of two tied matrices
        assert projection is not None
        embedding, projection = projection, None
    return Parts(embedding, layers, projection, bias)


def _listed(names: Iterable[str]) -> str:
    return truncated(", ".join(names), _MOST_CHARACTERS)


def _common_prefix(names: Iterable[str]) -> str:
    """The modules that every name begins with: `module.`, `model.lm.`."""
    modules = [name.split(".")[:-1] for name in names]
    common = []
    for parts in zip(*modules, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(f"{parts[0]}.")
    return "".join(common)
