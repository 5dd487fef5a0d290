"""Commands that run an artifact on text: generate, suggest and score."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from typer import Option

from .options import ExportedRun, Json, JsonLines, Model, Texts, Threads, Unknown, as_utf8, load_predictor
from .output import is_screen, print_result, print_status, print_text
from .paths import path_option
from .scores import ScorePrinter
from .texts import write_texts

if TYPE_CHECKING:
    from io import BufferedIOBase

    from ..runtime import Predictor, Stream


Never = Annotated[
    list[str] | None,
    Option(metavar="WORD", help="A word that never appears, in any letter case; may be repeated.", callback=as_utf8),
]
NeverFile = Annotated[Path | None, path_option("More such words, separated by white space.", metavar="FILE")]
_USUAL = 5
"""A word that is not among so many of those that begin with its letters looks unfinished."""
_SEPARATOR = "---\n"
"""Between two texts; each may have several lines, and empty ones."""


def generate(
    prompt: Texts = None,
    model: Model = None,
    run: ExportedRun = None,
    max_tokens: Annotated[int, Option(help="Tokens to write.")] = 50,
    temperature: Annotated[float, Option(help="0: greedy; below 1: fewer improbable tokens.")] = 0.8,
    top_k: Annotated[int | None, Option(help="Draw among the k most probable tokens.")] = None,
    top_p: Annotated[
        float | None, Option(help="Draw among the most probable tokens that together reach this probability.")
    ] = None,
    method: Annotated[str, Option(help="greedy, weighted or weighted-at-boundaries.")] = "weighted",
    repetition_penalty: Annotated[
        float, Option(help="Above 1: repeat words of this text less often (1: off; 1.2 is usual).")
    ] = 1.0,
    stop: Annotated[
        list[str] | None,
        Option(metavar="TEXT", help="End before this word, with bpe any text; may be repeated.", callback=as_utf8),
    ] = None,
    seed: Annotated[int | None, Option(help="Seed; makes the text repeatable.")] = None,
    allow_unknown: Unknown = False,
    never: Never = None,
    never_file: NeverFile = None,
    count: Annotated[
        int | None,
        Option(help="Write this many texts, a line --- between two; with --json one object a line.", min=1),
    ] = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Continue a prompt, token by token; with --count in many texts, the first as without."""
    predictor = load_predictor(model, run, threads)
    text = " ".join(prompt) if prompt else _piped_text()
    stream = _stream_after(text, predictor)
    options: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "method": method,
        "allow_unknown": allow_unknown,
        "repetition_penalty": repetition_penalty,
        "stop": stop or (),
        "never": never_words(never, never_file),
    }
    if count is not None:
        texts = write_texts(predictor, text, stream, count, max_tokens, seed, options)
    else:
        texts = iter([stream.generate(max_tokens, seed=seed, **options)])
        if as_json:
            return print_result(True, "", {"prompt": text, "text": "".join(next(texts))})
    for number, pieces in enumerate(texts):
        if number and not as_json:
            print_text(_SEPARATOR)
        _print_written(text, pieces, as_json)
    return None


def _print_written(prompt: str, pieces: Iterable[str], as_json: bool) -> None:
    """Print a text: as one line of JSON, or piece by piece as it is written."""
    from ..runtime.io.files import json_text

    if as_json:
        return print_text(f"{json_text({'prompt': prompt, 'text': ''.join(pieces)})}\n")
    print_text(prompt)
    for piece in pieces:
        print_text(piece)
    return print_text("\n")


def suggest(
    text: Texts = None,
    model: Model = None,
    run: ExportedRun = None,
    k: Annotated[int, Option("-k", "--count", help="Number of suggestions.")] = 5,
    prefix: Annotated[
        str | None, Option(help="Complete the word that begins with these letters.", callback=as_utf8)
    ] = None,
    allow_unknown: Unknown = False,
    never: Never = None,
    never_file: NeverFile = None,
    as_json: Json = False,
) -> None:
    """List the most probable words after a text (the arguments, joined); on a terminal without one, as you type."""
    predictor = load_predictor(model, run, 1)
    if not text and prefix is None and not as_json and _at_terminal():
        return _suggest_while_typing(predictor, k, allow_unknown, never_words(never, never_file))
    stream = _stream_to_suggest(" ".join(text) if text else _piped_text(), predictor, prefix)
    words, exact = stream.next_words(
        k, prefix=prefix, allow_unknown=allow_unknown, never=never_words(never, never_file)
    )
    if prefix is not None and not words:
        print_status(f"no word of the vocabulary begins with {prefix!r}")
    if not exact:
        print_status("the search was cut: words that are not listed may be as probable as the last ones")
    lines = "\n".join(f"{probability:7.2%}  {word!r}" for word, probability in words)
    values = [{"token": word, "probability": probability} for word, probability in words]
    return print_result(as_json, lines, {"suggestions": values, **({} if exact else {"exact": False})})


def _stream_to_suggest(text: str, predictor: "Predictor", prefix: str | None) -> "Stream":
    """A stream that has read a text; says how to complete its last word where that looks unfinished."""
    *_, word = text.split(" ")
    if prefix is not None or not word.isalpha() or len(word) == 1 or predictor.vocabulary.tokenization.unit == "char":
        return _stream_after(text, predictor)
    _warn_of_unknown(text, predictor)
    before = text.removesuffix(word).removesuffix(" ")
    stream = predictor.stream()
    stream.feed(before)
    longer = [found for found, _ in stream.next_words(_USUAL, prefix=word).words]
    if longer and word.casefold() not in map(str.casefold, longer):
        print_status(
            f"hint: {word!r} is taken as a whole word; to complete it, give it as --prefix: {', '.join(longer[:3])}"
        )
    stream.feed(text.removeprefix(before))
    return stream


def _stream_after(text: str, predictor: "Predictor") -> "Stream":
    """A stream that has read a text; warns if many of its words are unknown."""
    _warn_of_unknown(text, predictor)
    stream = predictor.stream()
    stream.feed(text)
    return stream


def _warn_of_unknown(text: str, predictor: "Predictor") -> None:
    from ..runtime.score import MANY_UNKNOWN

    vocabulary = predictor.vocabulary
    ids = vocabulary.encode(text)
    unknown = ids.count(vocabulary.unknown_id)
    if unknown and unknown >= MANY_UNKNOWN * len(ids):
        print_status(
            f"warning: unknown tokens before: {unknown} of {len(ids)} (the vocabulary has {len(vocabulary):,}); "
            "the model does not know what they say"
        )


def _at_terminal() -> bool:
    return is_screen(sys.stdin) and is_screen(sys.stdout)


def never_words(words: list[str] | None, file: Path | None) -> list[str]:
    """The words of --never and --never-file."""
    from ..runtime.io.text_files import read_text

    return [*(words or []), *(read_text(file).split() if file else [])]


def _suggest_while_typing(predictor: "Predictor", count: int, allow_unknown: bool, never: list[str]) -> None:
    from ..runtime import Autocompletion
    from .interactive import prompt_session, read_lines

    autocompletion = Autocompletion(predictor, count, allow_unknown, never)
    print_status("Tab or an arrow takes a suggestion, Enter ends the line, Ctrl-D ends the command.")
    read_lines(autocompletion, prompt_session(autocompletion))


def score(
    text: Texts = None,
    model: Model = None,
    run: ExportedRun = None,
    end: Annotated[bool, Option("--end", help="Score the end of each sentence too.")] = False,
    per_token: Annotated[bool, Option("--per-token", help="Show every token.")] = False,
    per_word: Annotated[bool, Option("--per-word", help="Show every word with the sum of its tokens.")] = False,
    ranks: Annotated[
        bool, Option("--ranks", help="Show every token with its rank among the vocabulary, 1: the most probable.")
    ] = False,
    heat: Annotated[bool, Option("--heat", help="Colour each token by its surprisal, on a terminal only.")] = False,
    threads: Threads = 1,
    as_json: JsonLines = False,
) -> None:
    """Compute log-probability and perplexity of each argument, or of each line of standard input as it comes."""
    shown = {"per_token": per_token, "per_word": per_word, "ranks": ranks, "heat": heat, "as_json": as_json}
    printer = ScorePrinter(load_predictor(model, run, threads), end=end, **shown)
    for lines in [text] if text else _piped_lines():
        printer.print(lines)
    printer.finish()


def _piped_text() -> str:
    """Standard input without its last newline; empty on a terminal."""
    from ..runtime.io.text_files import decode_text

    if sys.stdin is None or sys.stdin.isatty():
        return ""
    return decode_text(sys.stdin.buffer.read(), "standard input").removesuffix("\n")


def _piped_lines() -> Iterator[list[str]]:
    """The lines of standard input as they come, those of one read together."""
    from ..runtime.io.lines import read_lines

    if sys.stdin is not None:
        if sys.stdin.isatty():
            print_status("Enter scores a line, Ctrl-D ends the command.")
        yield from read_lines(cast("BufferedIOBase", sys.stdin.buffer), "standard input")
