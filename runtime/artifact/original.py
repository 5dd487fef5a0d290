"""The weights that an export was made of, and those of its run now: a run may go on after its export."""

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


def older_than_run(path: Path, artifact: Artifact) -> str:
    """What to do about an export whose run folder holds newer weights; empty if it does not, or it is not known.

    Args:
        path: The file of `artifact`.
        artifact: The export.
    """
    now, exported = weights_of_run(path.parent), artifact.parity.get("original_sha256")
    if None in (now, exported) or now == exported:
        return ""
    precision = "" if artifact.precision == "fp32" else f" --precision {artifact.precision}"
    again = f"lmtool export --run {shlex.quote(str(path.parent))}{precision}"
    return f"{path} is older than the weights of its run; export again: {again}"


def older_exports(folder: Path) -> list[str]:
    """`older_than_run` of each export in a run folder."""
    found = []
    for path in sorted(folder.glob(EXPORTS)):
        try:
            found.append(older_than_run(path, Artifact.read(path)))
        except (ArtifactError, StorageError):  # a model for sherpa-onnx, say
            continue
    return [line for line in found if line]
