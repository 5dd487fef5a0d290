"""Request bodies: their fields, types and ranges, and the errors for wrong ones."""

import functools
import reprlib
from typing import Annotated, Any, TypeVar, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, WithJsonSchema, field_validator

from ..runtime.sampling import Sampling
from .errors import ApiError, invalid
from .options import MAX_BIAS, MAX_LOGPROBS, MAX_SEED, MAX_STOPS, ServeOptions

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxlevel = 60, 60, 4, 4, 2
_KEPT_SAMPLINGS = 256
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "suffix": (None, ""),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
}
"""Fields of OpenAI's API that this server does not support, and their values without effect."""

_NULLABLE = ("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "n", "stream", "echo")

Prompt = str | list[int]

_STRING, _IDS = {"type": "string"}, {"type": "array", "items": {"type": "integer"}}
_PROMPTS = {"anyOf": [_STRING, _IDS, {"type": "array", "items": _STRING}, {"type": "array", "items": _IDS}]}
_UNSUPPORTED = {"description": "Not supported: leave it out, or send its value without effect."}


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@final
class StreamOptions(_Body):
    """Options of a streamed completion.

    `include_usage` sends the token counts last. `include_obfuscation`, which would pad events against readers of their
    sizes, is not supported.
    """

    include_usage: bool = False
    include_obfuscation: bool = False


@final
class CompletionRequest(_Body):
    """The body of `POST /v1/completions`: OpenAI's fields, and `top_k`, `repetition_penalty` and `session`.

    `logit_bias` maps token ids to what is added to their logits; -100 rules a token out.

    A `top_k` of 0 or -1 draws among all tokens. The repetition penalty applies to the tokens that the choice has
    written, as in `Stream.generate`.

    `echo` returns the prompt's text as it was sent, or as `Tokenization.folded` reads it if that has another length, as
    of decomposed accents, invisible characters and `İ`.

    A session continues after the last token that was sent in full. A token that `stop` cuts is not part of it, though
    its text before the stop was sent; nor are the tokens of the stop.
    """

    model: str | None = None
    prompt: Annotated[Any, WithJsonSchema(_PROMPTS)] = ""
    max_tokens: Annotated[int, Field(ge=0)] = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    repetition_penalty: Annotated[float, Field(ge=1)] = 1.0
    n: Annotated[int, Field(ge=1)] = 1
    best_of: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: bool = False
    stop: str | list[str] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    user: str | None = None
    session: str | None = None
    suffix: Annotated[Any, WithJsonSchema(_UNSUPPORTED)] = None
    presence_penalty: Annotated[Any, WithJsonSchema(_UNSUPPORTED)] = None
    frequency_penalty: Annotated[Any, WithJsonSchema(_UNSUPPORTED)] = None

    @field_validator(*_NULLABLE, mode="before")
    @classmethod
    def _replace_null(cls, value: Any, field: ValidationInfo) -> Any:
        """`null` means the default."""
        return cls.model_fields[str(field.field_name)].default if value is None else value

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        top_k, top_p = self.top_k if self.top_k > 0 else None, None if self.top_p == 1 else self.top_p
        return _sampling(self.temperature, top_k, top_p, self.repetition_penalty)

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
            ApiError: `prompt` has another form.
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
class EmptyRequest(_Body):
    """The body of `POST /v1/sessions` and `POST /v1/models/reload`: an empty object."""


@final
class TokenizeRequest(_Body):
    """The body of `POST /tokenize`; `add_special_tokens` has no effect, as there are none to add."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = False


@final
class DetokenizeRequest(_Body):
    """The body of `POST /detokenize`."""

    model: str | None = None
    tokens: list[int]


Body = TypeVar("Body", bound=BaseModel)


def parse_body(schema: type[Body], value: Any) -> Body:
    """Check a JSON value against a schema.

    Raises:
        ApiError: The value is not an object, or a field is unknown, missing, or has a wrong type or value.
    """
    if not isinstance(value, dict):
        raise invalid(f"the body is {_SHORT.repr(value)}, expected a JSON object")
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise _to_api_error(schema, error) from error


def check_completion(request: CompletionRequest, options: ServeOptions) -> None:
    """Check the server's limits and how fields go together.

    Raises:
        ApiError: A field is unsupported, above a limit, or contradicts another.
    """
    for name, neutral in _NEUTRAL.items():
        value = getattr(request, name)
        if value not in neutral or isinstance(value, bool):
            raise invalid(f"{name} is {_SHORT.repr(value)}, which this server does not support; leave it out", name)
    check_at_most("max_tokens", request.max_tokens, options.max_tokens)
    check_at_most("n", request.n, options.max_n)
    if request.best_of not in (None, request.n):
        raise invalid(f"best_of is {request.best_of}, expected n, {request.n}; leave it out", "best_of")
    if request.stream_options is not None and not request.stream:
        raise invalid("stream_options is there without stream; leave it out, or set stream to true", "stream_options")
    if request.stream_options is not None and request.stream_options.include_obfuscation:
        raise invalid("include_obfuscation is true, expected false: this server does not pad events", "stream_options")
    if request.max_tokens == 0 and not request.echo and request.session is None:
        raise invalid(
            "max_tokens is 0, expected 1 or more; 0 goes with echo, or with a session that reads", "max_tokens"
        )
    prompt_count = len(request.prompts)
    if request.session is not None and (request.n != 1 or prompt_count != 1):
        raise invalid(
            f"n is {request.n} and there are {prompt_count} prompts, expected one of each: a session has one text",
            "session",
        )
    check_at_most("prompt", prompt_count, options.max_prompts, "prompts")
    check_at_most("n", request.n * prompt_count, options.max_choices, "choices of all prompts together")
    check_at_most("stop", len(request.stops), MAX_STOPS, "strings")
    for stop in request.stops:
        if not stop:
            raise invalid("stop holds an empty string, expected at least one character", "stop")
        check_at_most("stop", len(stop), options.max_stop_chars, "characters")


def check_suggest(request: SuggestRequest, options: ServeOptions) -> None:
    """Check the server's limits.

    Raises:
        ApiError: A field is above a limit.
    """
    check_at_most("count", request.count, options.max_suggestions)
    prefix_bytes = len((request.prefix or "").encode(errors="surrogatepass"))
    check_at_most("prefix", prefix_bytes, options.max_prompt_tokens, "bytes")


def check_model(name: str | None, options: ServeOptions) -> None:
    """Check that a request names the served model, or none.

    Raises:
        ApiError: It names another one, 404.
    """
    if name not in (None, options.name):
        raise ApiError(
            404, "model_not_found", f"there is no model {_SHORT.repr(name)}, expected {options.name!r}", "model"
        )


def check_at_most(name: str, value: int, largest: int, unit: str = "") -> None:
    """Check a field against a limit.

    Raises:
        ApiError: It is above the limit.
    """
    if value > largest:
        actual = f"has {value:,} {unit}" if unit else f"is {value:,}"
        raise invalid(f"{name} {actual}, expected {largest:,} or fewer", name)


@functools.lru_cache(_KEPT_SAMPLINGS)
def _sampling(temperature: float, top_k: int | None, top_p: float | None, repetition_penalty: float) -> Sampling:
    return Sampling("weighted", temperature, top_k, top_p, repetition_penalty=repetition_penalty)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {int}


def _to_api_error(schema: type[BaseModel], error: ValidationError) -> ApiError:
    problems = error.errors(include_url=False, include_context=False)
    known = f"some of {', '.join(schema.model_fields)}" if schema.model_fields else "none"
    unknown = [str(problem["loc"][-1]) for problem in problems if problem["type"] == "extra_forbidden"]
    if unknown:
        names = ", ".join(_SHORT.repr(name) for name in unknown[:10])
        return ApiError(400, "unknown_field", f"the body has the unknown fields {names}, expected {known}", unknown[0])
    problem = problems[0]
    if not problem["loc"]:
        return ApiError(400, "unknown_field", f"the name of a field is no Unicode text, expected {known}")
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return invalid(f"{name} is missing; send it", name)
    reason = f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
    return invalid(f"{name} is {_SHORT.repr(problem['input'])}, but {reason}", name)
