"""What clients send: the fields, their types and ranges, and what is said where one is wrong."""

import reprlib
from typing import Annotated, Any, TypeVar, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ApiError, invalid
from .options import MAX_LOGPROBS, MAX_SEED, MAX_STOPS, ServeOptions

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxlevel = 60, 60, 4, 4, 2
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "suffix": (None, ""),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
}
"""Fields of OpenAI's that this server does not have, and the values at which they change nothing."""

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Prompt = str | list[int]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@final
class StreamOptions(_Body):
    """How a completion is streamed: `include_usage` sends the counts of tokens last."""

    include_usage: bool = False


@final
class CompletionRequest(_Body):
    """The body of `POST /v1/completions`. `session` is ours; everything else is OpenAI's.

    With `echo` the prompt's text comes back as it was sent; only a model that reads lower case (the rule `words`) gives
    it back in lower case where it holds a letter whose lower case is two characters, as `İ`.

    A session goes on after the last token whose whole text was sent. A token that `stop` cuts is not part of it, though
    the part before the stop was sent; nor are those of the stop.
    """

    model: str | None = None
    prompt: Any = ""
    max_tokens: Annotated[int, Field(ge=0)] | None = 16
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    n: Annotated[int, Field(ge=1)] | None = 1
    best_of: int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: bool | None = False
    stop: str | list[str] | None = None
    seed: Seed | None = None
    user: str | None = None
    session: str | None = None
    suffix: Any = None
    logit_bias: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None

    @property
    def choices(self) -> int:
        """Choices for each prompt."""
        return 1 if self.n is None else self.n

    @property
    def tokens(self) -> int:
        """The most tokens that a choice may get."""
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts, each text or token ids.

        Raises:
            ApiError: `prompt` is nothing of the kind.
        """
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt, list) and self.prompt:
            if _are_ids(self.prompt):
                return [self.prompt]
            if all(isinstance(prompt, str) or (prompt and _are_ids(prompt)) for prompt in self.prompt):
                return self.prompt
        raise invalid(
            f"prompt is {_SHORT.repr(self.prompt)}, expected a string, a list of strings, a list of token ids, or a "
            "list of such lists, none of them empty",
            "prompt",
        )


@final
class SuggestRequest(_Body):
    """The body of `POST /v1/suggest`."""

    model: str | None = None
    text: str = ""
    count: Annotated[int, Field(ge=1)] = 5
    prefix: str | None = None
    session: str | None = None


@final
class SessionRequest(_Body):
    """The body of `POST /v1/sessions`: an empty object.

    The session's text is that of the prompts and of whole tokens that were sent; see `CompletionRequest` for stops.
    """


@final
class TokenizeRequest(_Body):
    """The body of `POST /tokenize`; there are no special tokens to add."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = False


@final
class DetokenizeRequest(_Body):
    """The body of `POST /detokenize`."""

    model: str | None = None
    tokens: list[int]


Body = TypeVar("Body", bound=BaseModel)


def parsed(kind: type[Body], value: Any) -> Body:
    """The request in a JSON value.

    Raises:
        ApiError: It is no object, or a field is unknown, missing, or of a wrong type or value.
    """
    if not isinstance(value, dict):
        raise invalid(f"the body is {_SHORT.repr(value)}, expected a JSON object")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _explained(kind, error) from error


def check_completion(request: CompletionRequest, options: ServeOptions) -> None:
    """Check what the fields alone do not tell, and the server's limits.

    Raises:
        ApiError: A field is outside what this server does, or contradicts another.
    """
    for name, neutral in _NEUTRAL.items():
        if getattr(request, name) not in neutral or isinstance(getattr(request, name), bool):
            raise invalid(
                f"{name} is {_SHORT.repr(getattr(request, name))}, which this server does not do; leave it out", name
            )
    _check_at_most("max_tokens", request.tokens, options.max_tokens)
    _check_at_most("n", request.choices, options.max_n)
    if request.best_of not in (None, request.choices):
        raise invalid(f"best_of is {request.best_of}, expected n, {request.choices}; leave it out", "best_of")
    if request.stream_options is not None and not request.stream:
        raise invalid("stream_options is there without stream; leave it out, or set stream to true", "stream_options")
    if request.tokens == 0 and not request.echo and request.session is None:
        raise invalid(
            "max_tokens is 0, expected 1 or more; 0 goes with echo, or with a session that reads", "max_tokens"
        )
    if request.session is not None and (request.choices != 1 or len(request.prompts) != 1):
        raise invalid(
            f"n is {request.choices} and there are {len(request.prompts)} prompts, expected one of each: a session has "
            "one text",
            "session",
        )
    _check_at_most("prompt", len(request.prompts), options.max_prompts, "prompts")
    _check_at_most("n", request.choices * len(request.prompts), options.max_choices, "choices of all prompts together")
    _check_stops(request.stops, options)


def check_model(name: str | None, options: ServeOptions) -> None:
    """Check that the model that is asked for is the one that is here; None is.

    Raises:
        ApiError: It is another one.
    """
    if name not in (None, options.name):
        raise ApiError(
            404, "model_not_found", f"there is no model {_SHORT.repr(name)}, expected {options.name!r}", "model"
        )


def check_count(request: SuggestRequest, options: ServeOptions) -> None:
    """Check how many words are asked for.

    Raises:
        ApiError: They are too many.
    """
    _check_at_most("count", request.count, options.max_suggestions)


def _check_stops(stops: list[str], options: ServeOptions) -> None:
    _check_at_most("stop", len(stops), MAX_STOPS, "strings")
    for stop in stops:
        if not stop:
            raise invalid("stop holds an empty string, expected at least one character", "stop")
        _check_at_most("stop", len(stop), options.max_stop_chars, "characters")


def _check_at_most(name: str, found: int, largest: int, unit: str = "") -> None:
    if found > largest:
        what = f"has {found:,} {unit}" if unit else f"is {found:,}"
        raise invalid(f"{name} {what}, expected {largest:,} or fewer", name)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _explained(kind: type[BaseModel], error: ValidationError) -> ApiError:
    found = error.errors(include_url=False, include_context=False)
    known = f"some of {', '.join(kind.model_fields)}" if kind.model_fields else "none"
    unknown = [str(problem["loc"][-1]) for problem in found if problem["type"] == "extra_forbidden"]
    if unknown:
        names = ", ".join(_SHORT.repr(name) for name in unknown[:10])
        return ApiError(400, "unknown_field", f"the body has the unknown fields {names}, expected {known}", unknown[0])
    problem = found[0]
    if not problem["loc"]:
        return ApiError(400, "unknown_field", f"the name of a field is no Unicode text, expected {known}")
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return invalid(f"{name} is missing; send it", name)
    reason = f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
    return invalid(f"{name} is {_SHORT.repr(problem['input'])}, but {reason}", name)
