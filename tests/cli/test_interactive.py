"""Suggestions while typing: the menu after each key, and the commands on a pseudo-terminal."""

import threading
from pathlib import Path
from typing import Any

import pytest
from lmtool.cli.interactive import prompt_session, read_lines
from lmtool.runtime import Predictor
from lmtool.runtime.autocompletion import Autocompletion
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from support.processes.terminal import Terminal

PATIENCE_SECONDS = 60
COUNT = 3
Menu = list[tuple[str, str]]


def menus(autocompletion: Autocompletion, *steps: tuple[str, str]) -> list[Menu]:
    """Type each step's keys once the menu for its line is shown; returns these menus.

    After `PATIENCE_SECONDS` the input ends, and the result is empty.
    """
    shown: list[Menu] = []
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        session = prompt_session(autocompletion)

        def answer(_: Any) -> None:
            state = session.default_buffer.complete_state
            if len(shown) < len(steps) and state is not None and steps[len(shown)][0] == session.default_buffer.text:
                keys = steps[len(shown)][1]
                shown.append([(entry.display_text, entry.display_meta_text) for entry in state.completions])
                pipe.send_bytes(keys.encode(errors="surrogateescape"))

        def end_input() -> None:
            shown.clear()
            pipe.close()

        session.app.after_render += answer
        timer = threading.Timer(PATIENCE_SECONDS, end_input)
        timer.start()
        try:
            read_lines(autocompletion, session)
        finally:
            timer.cancel()
            timer.join()
    return shown


def menu(predictor: Predictor, read: str, prefix: str | None = None) -> Menu:
    stream = predictor.stream()
    stream.feed(read)
    return [(word, f"{probability:.2%}") for word, probability in stream.suggest(COUNT, prefix=prefix)]


def test_the_menu_follows_every_key(predictor: Predictor) -> None:
    steps = [
        ("", "the "),
        ("the ", "s"),
        ("the s", "h"),
        ("the sh", "\x7f"),
        ("the s", "\x7f"),
        ("the ", "\x01"),
        ("the ", "\x04"),
    ]
    assert menus(Autocompletion(predictor, COUNT), *steps) == [
        menu(predictor, ""),
        menu(predictor, "the"),
        menu(predictor, "the", "s"),
        menu(predictor, "the", "sh"),
        menu(predictor, "the", "s"),
        menu(predictor, "the"),
        menu(predictor, ""),  # Ctrl-A: the cursor is at the beginning
    ]


def test_tab_takes_a_suggestion_and_enter_ends_the_line(predictor: Predictor) -> None:
    best, second = (word for word, _ in menu(predictor, "the cat", "s")[:2])
    steps = [
        ("", "the cat s"),
        ("the cat s", "\t"),
        (f"the cat {best}", "\t"),
        (f"the cat {second}", "\r"),
        ("", "\x04"),
    ]
    shown = menus(Autocompletion(predictor, COUNT), *steps)
    assert shown[1] == shown[2] == shown[3] == menu(predictor, "the cat", "s")
    assert shown[4] == menu(predictor, f"the cat {second}\n")
    assert shown[4] != shown[0]


def test_odd_keys_are_accepted(predictor: Predictor) -> None:
    odd = (
        "\x1b[200~a\nb\x1b[201~ \u6f22\U0001f600 e\u0301 \udcff\udcc3( \x00\x1b[A\x1b[B\x1b[5~\x12q\x07\x17 \x1bz"
        + "x" * 3000
        + " the "
    )
    steps = [("", odd + "\r"), ("", "\x1b[200~" + "the cat\n" * 500 + "\x1b[201~"), ("the cat\n" * 500, "\x04")]
    assert len(menus(Autocompletion(predictor, COUNT), *steps)) == 3


def test_control_c_raises_keyboard_interrupt(predictor: Predictor) -> None:
    with pytest.raises(KeyboardInterrupt):
        menus(Autocompletion(predictor, COUNT), ("", "the "), ("the ", "\x03"))


@pytest.mark.parametrize(("key", "code"), [("\x04", 0), ("\x03", 130)], ids=["Ctrl-D", "Ctrl-C"])
def test_typing_on_a_terminal(project: Path, key: str, code: int) -> None:
    with Terminal("suggest", cwd=project) as terminal:
        terminal.read_until("%")
        terminal.type("the c\x0c")  # Ctrl-L: the whole screen is written again, not only the changes
        terminal.read_until("100.00%")
        assert "cat" in terminal.shown
        terminal.type(key)
        assert terminal.exit_code() == code
        assert ("error: interrupted" in terminal.shown) == (code == 130)
        assert "Traceback" not in terminal.shown


@pytest.mark.parametrize("arguments", [["the cat"], ["--prefix", "s"], ["--json"]], ids=" ".join)
def test_suggest_with_arguments_is_not_interactive(project: Path, arguments: list[str]) -> None:
    with Terminal("suggest", *arguments, cwd=project) as terminal:
        assert terminal.exit_code() == 0
        assert "Ctrl-D" not in terminal.shown


def test_a_missing_prompt_toolkit_is_named_with_its_extra(project: Path) -> None:
    with Terminal("suggest", cwd=project, without="prompt_toolkit") as terminal:
        assert terminal.exit_code() == 1
        assert "error: this command needs prompt_toolkit; pip install 'lmtool[cli]'" in terminal.shown


def test_score_on_a_terminal_says_what_it_waits_for(project: Path) -> None:
    with Terminal("score", cwd=project) as terminal:
        terminal.read_until("Enter scores a line, Ctrl-D ends the command.")
        terminal.type("the cat\r")
        terminal.read_until("perplexity")
        terminal.type("\x04")
        assert terminal.exit_code() == 0
