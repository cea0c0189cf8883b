"""What a caller may ask of sampling, and the ranges allowed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from byollm.engine.errors import SamplingParamsError

if TYPE_CHECKING:
    from byollm.engine.grammar import Grammar

MAX_N = 128
MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 1024
MAX_STOP_TOKEN_IDS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How the tokens of one request are chosen and when it ends.

    The order in which logits are treated: `logit_bias`, the three penalties, `temperature`, `top_k`, `top_p`
    (of the mass that `top_k` left), `min_p`. `top_p` keeps the fewest most probable tokens whose mass reaches
    it; among equal logits the lower token id counts as the more probable.

    Attributes:
        max_tokens: most tokens to generate; None means as many as context and cache allow.
        min_tokens: before so many no end-of-text token, stop string or stop token ends the answer.
        temperature: 0 means greedy: always the most probable token.
        top_k: keep only the k most probable tokens; 0 keeps all.
        top_p: keep only the most probable tokens that together reach this probability.
        min_p: keep only tokens at least this many times as probable as the most probable one.
        repetition_penalty: divides positive and multiplies negative logits of tokens in prompt or answer.
        presence_penalty: subtracted from the logits of tokens in the answer so far.
        frequency_penalty: subtracted once for each time a token stands in the answer so far.
        logit_bias: added to the logits of these token ids.
        seed: the same seed gives the same draws; None picks one.
        stop: strings that end the answer; they are not part of its text.
        stop_token_ids: token ids that end the answer; they are not part of its text.
        ignore_eos: go on after the model's end-of-text token.
        logprobs: how many alternatives to report for each token, 0 for the chosen one only. They are
            log-softmax of the model's raw logits, before bias, penalties and temperature.
        grammar: what the answer has to look like; it ends where the grammar allows it.
        n: how many answers to generate; answer i draws from a seed derived from (seed, i).
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    grammar: "Grammar | None" = None
    n: int = 1

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            _integer("max_tokens", self.max_tokens, 1, None)
        _integer("min_tokens", self.min_tokens, 0, self.max_tokens)
        if self.grammar is not None and (self.min_tokens or self.ignore_eos):
            raise SamplingParamsError(
                "min_tokens" if self.min_tokens else "ignore_eos",
                "it cannot be combined with a grammar, which says itself where an answer may end",
            )
        _number("temperature", self.temperature, 0, None)
        _integer("top_k", self.top_k, 0, None)
        _number("top_p", self.top_p, 0, 1)
        _number("min_p", self.min_p, 0, 1)
        _number("repetition_penalty", self.repetition_penalty, 0, None, above=True)
        _number("presence_penalty", self.presence_penalty, -2, 2)
        _number("frequency_penalty", self.frequency_penalty, -2, 2)
        for token_id, bias in self.logit_bias.items():
            _integer("logit_bias", token_id, 0, None)
            _number("logit_bias", bias, -100, 100)
        if self.seed is not None:
            _integer("seed", self.seed, -(2**63), 2**64 - 1)
        _strings("stop", self.stop)
        if len(self.stop_token_ids) > MAX_STOP_TOKEN_IDS:
            raise SamplingParamsError(
                "stop_token_ids",
                f"{len(self.stop_token_ids)} given, at most {MAX_STOP_TOKEN_IDS} are allowed",
            )
        for token_id in self.stop_token_ids:
            _integer("stop_token_ids", token_id, 0, None)
        if self.logprobs is not None:
            _integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        _integer("n", self.n, 1, MAX_N)

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0

    @property
    def penalised(self) -> bool:
        """Whether any of the three penalties changes a logit."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def adjusted(self) -> bool:
        """Whether bias, a penalty or a least length changes a logit."""
        return self.penalised or bool(self.logit_bias) or self.min_tokens > 0

    @property
    def filtered(self) -> bool:
        """Whether tokens are cut off before the draw."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def _allowed(low: float, high: float | None, above: bool) -> str:
    lower = f"above {low}" if above else f"{low} or more"
    if high is None:
        return lower
    return f"above {low} and at most {high}" if above else f"from {low} to {high}"


def _integer(param: str, value: object, low: int, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SamplingParamsError(
            param, f"{value!r} is not an integer; expected one {_allowed(low, high, False)}"
        )
    if value < low or (high is not None and value > high):
        raise SamplingParamsError(param, f"{value} is out of range; expected {_allowed(low, high, False)}")


def _number(param: str, value: object, low: float, high: float | None, above: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SamplingParamsError(
            param, f"{value!r} is not a finite number; expected {_allowed(low, high, above)}"
        )
    if value < low or (above and value == low) or (high is not None and value > high):
        raise SamplingParamsError(param, f"{value} is out of range; expected {_allowed(low, high, above)}")


def _strings(param: str, values: tuple[str, ...]) -> None:
    if isinstance(values, str) or len(values) > MAX_STOP_STRINGS:
        raise SamplingParamsError(param, f"expected a tuple of at most {MAX_STOP_STRINGS} strings")
    for value in values:
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_STOP_LENGTH:
            raise SamplingParamsError(param, f"expected strings of 1 to {MAX_STOP_LENGTH} characters each")
