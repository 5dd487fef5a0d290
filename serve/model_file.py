"""The file of the served model, which may be replaced while it is served."""

from pathlib import Path
from typing import final

from ..runtime.predictor import Predictor


@final
class ModelFile:
    """An artifact's path, and how it is loaded."""

    def __init__(self, path: Path, *, provider: str = "cpu", threads: int = 1) -> None:
        """Arguments as for `Predictor.load`; nothing is read yet."""
        self.path = path
        self._provider = provider
        self._threads = threads
        self._loaded: tuple[int, ...] | None = None

    @property
    def has_changed(self) -> bool:
        """Whether the file is another one than was loaded last, or cannot be found."""
        signature = self._signature()
        return signature is None or signature != self._loaded

    def load(self) -> Predictor:
        """Load the file that is there now.

        Raises:
            StorageError: As for `Predictor.load`; also its other errors.
        """
        signature = self._signature()  # first: a file that replaces this one meanwhile is another one
        predictor = Predictor.load(self.path, provider=self._provider, threads=self._threads)
        self._loaded = signature
        return predictor

    def forget(self) -> None:
        """The file that was loaded last is not served: `has_changed` is true from now on."""
        self._loaded = None

    def _signature(self) -> tuple[int, ...] | None:
        try:
            facts = self.path.stat()
        except OSError:
            return None
        return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
