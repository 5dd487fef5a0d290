"""A training's records as TensorBoard scalars (needs the package tensorboard).

The event file is rewritten from the history whenever a training starts, so a resumed one shows no point twice and none
that its checkpoint does not have.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

from torch.utils.tensorboard import SummaryWriter

from ...runtime.errors import StorageError
from ...runtime.io.files import make_folder

STEPS_PER_EPOCH = 1000
"""TensorBoard's steps are integers: the step of a scalar is its epoch in thousandths."""

_EVENT_FILES = "events.out.tfevents.*"


@contextlib.contextmanager
def tensorboard_reporter(folder: Path, history: Sequence[dict[str, Any]]) -> Iterator["ScalarReporter"]:
    """A reporter for a `with` block; it replaces the event files in `folder` by one that begins with `history`.

    Raises:
        StorageError: They cannot be replaced.
    """
    make_folder(folder)
    with _suppress_thread_errors():
        reporter = ScalarReporter(folder)
        try:
            for record in history:
                reporter.record(record)
            yield reporter
        finally:
            reporter.close()


@final
class ScalarReporter:
    """A `Reporter` that writes the numbers of each record as `KIND/NAME`."""

    def __init__(self, folder: Path) -> None:
        """Replace the event files in `folder` by an empty one.

        Raises:
            StorageError: They cannot be replaced.
        """
        self._folder = folder
        with self._storage_errors():
            for path in folder.glob(_EVENT_FILES):
                path.unlink()
            self._writer = SummaryWriter(str(folder))

    def note(self, line: str) -> None:
        """Do nothing: only records are written."""

    def step(self, done: int, total: int, epoch: int, loss: float, perplexity: float, tokens_per_second: float) -> None:
        """Do nothing: only records are written."""

    def record(self, record: dict[str, Any]) -> None:
        """Write a record.

        Raises:
            StorageError: It cannot be written.
        """
        step = round(record["epoch"] * STEPS_PER_EPOCH)
        with self._storage_errors():
            for name, value in record.items():
                if name != "epoch" and isinstance(value, int | float):
                    self._writer.add_scalar(f"{record['kind']}/{name}", value, step)
            self._writer.flush()

    def close(self) -> None:
        """Close the event file; every record is flushed by now."""
        with contextlib.suppress(OSError):
            self._writer.close()

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot write in {self._folder}: {error.strerror or error}") from error


@contextlib.contextmanager
def _suppress_thread_errors() -> Iterator[None]:
    """Print no traceback of the writer's thread; its error is raised again at the next record."""
    hook = threading.excepthook

    def print_unless_storage(failure: threading.ExceptHookArgs) -> None:
        if not isinstance(failure.exc_value, OSError):
            hook(failure)

    threading.excepthook = print_unless_storage
    try:
        yield
    finally:
        threading.excepthook = hook
