"""Suggestions in a terminal, updated at every keystroke."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

if TYPE_CHECKING:
    from ..runtime import Autocompletion


def prompt_session(autocompletion: "Autocompletion") -> PromptSession[str]:
    """A prompt that updates its menu of suggestions at every key and ends at Ctrl-D."""
    session: PromptSession[str] = PromptSession(
        completer=_Menu(autocompletion), complete_while_typing=True, key_bindings=_key_bindings()
    )

    def show(_: Any) -> None:
        # prompt_toolkit opens the menu when text is typed, but not when it is deleted or the cursor moves.
        if not session.app.is_done and session.default_buffer.complete_state is None:
            session.default_buffer.start_completion()

    session.app.key_processor.after_key_press += show
    return session


def read_lines(autocompletion: "Autocompletion", session: PromptSession[str]) -> None:
    """Read lines from the terminal until Ctrl-D.

    Raises:
        KeyboardInterrupt: The user typed Ctrl-C.
    """
    while True:
        try:
            line = session.prompt("> ", pre_run=session.default_buffer.start_completion)
        except EOFError:
            return
        autocompletion.end_line(line)


@final
class _Menu(Completer):
    def __init__(self, autocompletion: "Autocompletion") -> None:
        self._autocompletion = autocompletion

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        for text, start, shown, probability in self._autocompletion.suggestions(document.text_before_cursor):
            yield Completion(text, start, display=shown, display_meta=f"{probability:.2%}")


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("c-d")
    def end(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError)

    return bindings
