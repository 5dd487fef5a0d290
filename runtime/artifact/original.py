"""Whether to export again: a run may go on after its export, and earlier versions wrote other precisions."""

import shlex
from pathlib import Path

from ..errors import ArtifactError, JsonError, StorageError
from ..io.files import opened
from ..io.json_reader import MOST_BYTES, parse_json
from .artifact import Artifact
from .run_folders import EXPORTS

_BEST = Path("checkpoints") / "best.safetensors"
_SIZE_BYTES = 8


def weights_of_run(folder: Path) -> str | None:
    """Hash of the best weights of the run in `folder`, from the header of their checkpoint; None if unknown."""
    try:
        with opened(folder / _BEST) as file:
            size = int.from_bytes(file.read(_SIZE_BYTES), "little")
            header = file.read(size) if size <= MOST_BYTES else b""
        value = parse_json(parse_json(header)["__metadata__"]["facts"])["weights_sha256"]
    except (StorageError, JsonError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None


def outdated(path: Path, artifact: Artifact) -> str:
    """Why to export an artifact again, and how; empty without a reason.

    The reason is newer weights in its run folder, or a precision that only earlier versions wrote.

    Args:
        path: The file of `artifact`.
        artifact: The export.
    """
    now, exported = weights_of_run(path.parent), artifact.parity.get("original_sha256")
    if None not in (now, exported) and now != exported:
        return f"{path} is older than the weights of its run; {_again(path.parent, artifact)}"
    if artifact.is_of_earlier_version:
        folder = path.parent if now is not None else None
        return f"{path} is {artifact.precision} of an earlier version, not batch-invariant; {_again(folder, artifact)}"
    return ""


def _again(folder: Path | None, artifact: Artifact) -> str:
    """The command that exports again the run in a folder; None: an unknown one."""
    precision = "int8" if artifact.is_of_earlier_version else artifact.precision
    option = "" if precision == "fp32" else f" --precision {precision}"
    return f"export again: lmtool export --run {'DIR' if folder is None else shlex.quote(str(folder))}{option}"


def outdated_exports(folder: Path) -> list[str]:
    """`outdated` of each export in a run folder."""
    found = []
    for path in sorted(folder.glob(EXPORTS)):
        try:
            found.append(outdated(path, Artifact.read(path)))
        except (ArtifactError, StorageError):  # a model for sherpa-onnx, say
            continue
    return [line for line in found if line]
