"""The folder of a run: where its files are.

RUN/config.json                      configuration, corpus and its hash, device and versions
RUN/vocabulary.json                  tokens and tokenization
RUN/checkpoints/latest.safetensors   to resume from
RUN/checkpoints/best.safetensors     the epoch with the lowest valid perplexity
RUN/metrics.jsonl                    one JSON object per record
RUN/tensorboard/                     the records as TensorBoard scalars (optional)
RUN/curves.png                       learning curves
RUN/embeddings.png                   map of the word vectors
RUN/*.onnx                           exports
"""

from dataclasses import dataclass
from pathlib import Path

import filelock

from ..runtime.artifact.run_folders import CONFIG, METRICS
from ..runtime.io.files import remove_leftovers
from .errors import RunError


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files, and the lock of its folder."""

    path: Path

    @property
    def latest(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "latest.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint with the lowest valid perplexity."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def metrics(self) -> Path:
        """The records of the training."""
        return self.path / METRICS

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event file."""
        return self.path / "tensorboard"

    @property
    def curves(self) -> Path:
        """The picture of the learning curves."""
        return self.path / "curves.png"

    @property
    def embedding_map(self) -> Path:
        """The map of the word vectors."""
        return self.path / "embeddings.png"

    @property
    def _config(self) -> Path:
        return self.path / CONFIG

    @property
    def _vocabulary(self) -> Path:
        return self.path / "vocabulary.json"

    def artifact(self, variant: str) -> Path:
        """Default path of an export: `model.onnx`, `model.int8.onnx`, ..."""
        return self.path / ("model.onnx" if variant == "fp32" else f"model.{variant}.onnx")

    def lock(self) -> filelock.BaseFileLock:
        """Lock the folder; the returned lock is held, for a `with` block.

        Raises:
            RunError: Another process holds it, or the folder cannot be written.
        """
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(
                f"{self.path} is in use by another process; wait for it, or choose another folder: --run DIR"
            ) from error
        except OSError as error:
            raise RunError(f"cannot write in the run folder {self.path}: {error.strerror or error}") from error
        return lock

    def remove_leftovers(self) -> None:
        """Remove temporary files of a training that was killed while saving; hold the lock meanwhile."""
        for path in (self._config, self._vocabulary, self.metrics, self.latest, self.best, self.curves):
            remove_leftovers(path)
