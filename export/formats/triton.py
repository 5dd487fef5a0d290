"""A model repository for Triton Inference Server: the artifact, and a configuration that keeps the states.

The server's sequence batcher holds the states of each sequence and starts them with zeros ("implicit state"), so that a
client sends only token ids and a sequence id. The `oldest` strategy batches all sequences that have a request waiting.
"""

from pathlib import Path

from ...runtime.artifact.artifact import LOGITS, NEXT, TOKEN_IDS, Artifact
from ...runtime.errors import OptionError
from ...runtime.io.files import make_folder, read_bytes, write_atomically

MAX_BATCH_SIZE = 64
_IDLE_MICROSECONDS = 600_000_000
_CANDIDATE_SEQUENCES = 4096
_QUEUE_DELAY_MICROSECONDS = 500


def write_triton_repository(artifact_path: Path, folder: Path, name: str = "lmtool") -> Path:
    """Write `folder/name/config.pbtxt` and `folder/name/1/model.onnx`; returns `folder/name`.

    Raises:
        ArtifactError: The artifact cannot be used.
        OptionError: `name` is not a file name.
        StorageError: A file cannot be written.
    """
    if not name or Path(name).name != name:
        raise OptionError(f"the model's name is {name!r}, expected a file name without folders")
    artifact = Artifact.read(artifact_path)
    model = folder / name
    make_folder(model / "1")
    write_atomically(model / "1" / "model.onnx", read_bytes(artifact_path))
    write_atomically(model / "config.pbtxt", triton_config(artifact, name).encode())
    return model


def triton_config(artifact: Artifact, name: str) -> str:
    """The server's model configuration as protobuf text; sizes omit the batch axis."""
    states = "\n".join(_state(state, width) for state, width in artifact.architecture.states.items())
    return f"""name: "{name}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH_SIZE}
input [ {{ name: "{TOKEN_IDS}" data_type: TYPE_INT64 dims: [ -1 ] }} ]
output [ {{ name: "{LOGITS}" data_type: TYPE_FP32 dims: [ -1, {len(artifact.vocabulary)} ] }} ]
sequence_batching {{
  max_sequence_idle_microseconds: {_IDLE_MICROSECONDS}
  oldest {{
    max_candidate_sequences: {_CANDIDATE_SEQUENCES}
    max_queue_delay_microseconds: {_QUEUE_DELAY_MICROSECONDS}
  }}
{states}
}}
"""


def _state(name: str, width: int) -> str:
    return f"""  state {{
    input_name: "{name}"
    output_name: "{NEXT}{name}"
    data_type: TYPE_FP32
    dims: [ {width} ]
    initial_state {{ name: "zeros" data_type: TYPE_FP32 dims: [ {width} ] zero_data: true }}
  }}"""
