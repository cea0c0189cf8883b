"""What requests have in common: closed models of their parameters, and faults told in OpenAI's words."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from byollm.engine import SamplingParams
from byollm.engine.grammar import Grammar
from byollm.engine.sampling_params import MAX_N, MAX_STOP_LENGTH, MAX_STOP_TOKEN_IDS
from byollm.web.errors import ApiError, shorten

LONGEST_VALUE = 80  # characters of a refused value that an error repeats
MOST_PARAMETERS = 128  # of one object; each unknown one costs an error
INT64 = 2**63


class Parameters(BaseModel):
    """The parameters of a route. Nothing is ignored: an unknown or unsupported one is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Parameters of OpenAI's that are not supported here, each with the values that ask for nothing."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_neutral(cls, given: Any) -> Any:
        """Null stands for "not given", as in OpenAI's API; so does a neutral value."""
        if not isinstance(given, dict):
            return given
        if len(given) > MOST_PARAMETERS:
            raise PydanticCustomError("invalid_value", "the object has too many members")
        kept = {}
        for name, value in given.items():
            if value is None:
                continue
            if name not in cls.neutral:
                kept[name] = value
            elif not any(type(value) is type(neutral) and value == neutral for neutral in cls.neutral[name]):
                raise PydanticCustomError("unsupported_parameter", "unsupported", {"name": name})
        return kept

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Validate a request's body.

        Raises:
            ApiError: names the first parameter that is missing, unknown, not supported or not allowed.
        """
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise refusal(error.errors(include_url=False)[0]) from None


def unsupported(param: str, why: str = "This server does not support it; leave it out.") -> ApiError:
    """The error for a parameter of OpenAI's that is not supported here."""
    name = shorten(param, LONGEST_VALUE)
    return ApiError(400, f"Unsupported parameter: '{name}'. {why}", param=param, code="unsupported_parameter")


def refusal(fault: ErrorDetails) -> ApiError:
    """Tell a validation fault in OpenAI's words."""
    param = path(fault["loc"])
    if fault["type"] == "unsupported_parameter":
        return unsupported(path((*fault["loc"], fault["ctx"]["name"])))
    if fault["type"] == "broken_rule":
        param = path((*fault["loc"], fault["ctx"]["name"]))
        return ApiError(400, fault["msg"], param=param, code="invalid_value")
    if fault["type"] == "missing_there":
        param = path((*fault["loc"], fault["ctx"]["name"]))
    if fault["type"] in ("missing", "missing_there"):
        message, code = f"Missing required parameter: '{param}'.", "missing_required_parameter"
    elif fault["type"] == "extra_forbidden":
        message, code = f"Unknown parameter: '{shorten(param, LONGEST_VALUE)}'.", "unknown_parameter"
    else:
        # pydantic names its class there
        problem = "Input should be an object" if fault["type"] == "model_type" else fault["msg"]
        where = f"'{param}'" if param else "the request's body"
        message = f"Invalid value for {where}: {problem} (got {describe(fault['input'])})."
        code = "invalid_type" if fault["type"].endswith("_type") else "invalid_value"
    return ApiError(400, message, param=param, code=code)


def broken_rule(name: str, message: str) -> PydanticCustomError:
    """For validators: the parameter `name` does not agree with the others."""
    return PydanticCustomError("broken_rule", "{message}", {"name": name, "message": message})


def missing(name: str) -> PydanticCustomError:
    """For validators: the parameter `name` is required with these others."""
    return PydanticCustomError("missing_there", "missing", {"name": name})


def path(location: tuple[int | str, ...]) -> str:
    """Write a place in the request as OpenAI does: `messages[0].content`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe(value: Any) -> str:
    """A refused value in a few words, whatever its size."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, str):
        return repr(shorten(value, LONGEST_VALUE))
    return shorten(str(value).lower(), LONGEST_VALUE)


def _stop_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _bias_by_id(value: Any) -> Any:
    """JSON's keys are strings; token ids are numbers."""
    if not isinstance(value, dict):
        return value
    biases = {}
    for key, bias in value.items():
        if not (isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= 10):
            raise PydanticCustomError("invalid_value", "the keys should be token ids")
        biases[int(key)] = bias
    return biases


StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]
StopStrings = Annotated[
    list[StopString],
    Field(max_length=4),
    BeforeValidator(_stop_list, json_schema_input_type=str | list[StopString]),
]
StopTokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=INT64)]], Field(max_length=MAX_STOP_TOKEN_IDS)]
Bias = Annotated[float, Field(ge=-100, le=100)]
LogitBias = Annotated[
    dict[int, Bias],
    Field(max_length=1024),
    BeforeValidator(_bias_by_id, json_schema_input_type=dict[str, Bias]),
]


class Drawing(Parameters):
    """How the next token is drawn, so far as a model may have wishes of its own."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1, lt=INT64)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    # one of nearly 0 would make logits infinite
    repetition_penalty: Annotated[float, Field(ge=0.01, le=2)] = 1.0


class Sampling(Drawing):
    """How the next token is chosen and when to stop: OpenAI's parameters, and vLLM's beyond them."""

    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: LogitBias = {}
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    stop: StopStrings = []
    stop_token_ids: StopTokenIds = []
    ignore_eos: bool = False
    min_tokens: Annotated[int, Field(ge=0, lt=INT64)] = 0
    stream: bool = False

    def with_defaults(self, defaults: Drawing) -> Self:
        """The same request, where it says nothing with what `defaults` says."""
        said = defaults.model_dump(exclude_unset=True)
        return self.model_copy(
            update={name: value for name, value in said.items() if name not in self.model_fields_set}
        )

    def params(
        self,
        max_tokens: int | None,
        n: int = 1,
        logprobs: int | None = None,
        grammar: Grammar | None = None,
    ) -> SamplingParams:
        """What the engine is asked for."""
        return SamplingParams(
            max_tokens=max_tokens,
            min_tokens=self.min_tokens,
            temperature=self.temperature,
            top_k=max(self.top_k, 0),  # vLLM's -1 keeps all, as 0 does
            top_p=max(self.top_p, 1e-9),  # 0 keeps the most probable token alone
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
            seed=self.seed,
            stop=tuple(self.stop),
            stop_token_ids=tuple(self.stop_token_ids),
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
            grammar=grammar,
            n=n,
        )


class StreamOptions(Parameters):
    """What a stream carries beside the text."""

    neutral = {"include_obfuscation": (False,)}

    include_usage: bool = False
    continuous_usage_stats: bool = False
    """vLLM's: each chunk tells the usage so far."""


class OpenAISampling(Sampling):
    """The parameters that OpenAI's chat and completion routes share."""

    model: Annotated[str, Field(min_length=1)]
    n: Annotated[int, Field(ge=1, le=MAX_N)] = 1
    stream_options: StreamOptions | None = None
    user: str = ""
    """Accepted; it changes nothing."""

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise broken_rule("stream_options", "'stream_options' is only allowed when 'stream' is true.")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a chunk that tells the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def continuous_usage(self) -> bool:
        """Whether each chunk tells the usage so far."""
        options = self.stream_options
        return options is not None and options.include_usage and options.continuous_usage_stats
