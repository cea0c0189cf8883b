"""Which requests can be served at all."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from byollm.engine.errors import AdmissionError, QueueFullError
from byollm.engine.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a request.

    Attributes:
        vocab_size: token ids are below it.
        context: most tokens of one sequence, prompt and answer together.
        cache_tokens: tokens that the whole KV cache holds.
        max_sequences: most unfinished sequences, running and waiting.
        has_text: whether there is a tokenizer, without which no stop string can be found.
    """

    vocab_size: int
    context: int
    cache_tokens: int
    max_sequences: int
    has_text: bool

    def check(self, prompt: Sequence[int], params: SamplingParams) -> int:
        """Return the number of tokens that may be generated: `max_tokens`, or all that fit.

        Raises:
            AdmissionError: the request can never be served; says why and names the argument.
        """
        if len(prompt) == 0:
            raise AdmissionError("the prompt is empty: send at least one token", "prompt")
        max_tokens = self._max_tokens(len(prompt), params.max_tokens)
        self._check_ids("prompt", prompt)
        self._check_ids("stop_token_ids", params.stop_token_ids)
        self._check_ids("logit_bias", params.logit_bias)
        if params.stop and not self.has_text:
            raise AdmissionError(
                "stop strings need a tokenizer, and this model has none: use stop_token_ids", "stop"
            )
        return max_tokens

    def check_readable(self, prompt: Sequence[int]) -> None:
        """Refuse a text that the model cannot read, even without answering it.

        Raises:
            AdmissionError: it is empty, longer than the context, or has tokens outside the vocabulary.
        """
        if not 1 <= len(prompt) <= self.context:
            raise AdmissionError(
                f"the text has {len(prompt)} tokens; expected 1 to {self.context}, the model's context",
                "prompt",
            )
        self._check_ids("prompt", prompt)

    def check_room(self, unfinished: int, wanted: int) -> None:
        """Refuse `wanted` more sequences when there would be too many.

        Raises:
            QueueFullError: the queue is full.
        """
        if unfinished + wanted > self.max_sequences:
            raise QueueFullError(
                f"{wanted} more sequences asked for while {unfinished} of at most {self.max_sequences} are "
                "running or waiting: try again later"
            )

    def _max_tokens(self, prompt: int, asked: int | None) -> int:
        # The last token is never fed back, so it takes a place in the context but none in the cache.
        room = min(self.context, self.cache_tokens + 1) - prompt
        if room >= 1 and (asked is None or asked <= room):
            return asked or room
        answer = "no room for an answer" if asked is None else f"max_tokens {asked}"
        wanted = "" if asked is None else f", {prompt + asked} tokens together"
        raise AdmissionError(
            f"the request can never fit: prompt of {prompt} tokens, {answer}{wanted}; the context is "
            f"{self.context} tokens and the KV cache holds {self.cache_tokens}: "
            + (f"ask for at most {room} tokens or shorten the prompt" if room >= 1 else "shorten the prompt"),
            "prompt" if room < 1 else "max_tokens",
        )

    def _check_ids(self, param: str, ids: Collection[int]) -> None:
        if not ids or ({int}.issuperset(map(type, ids)) and min(ids) >= 0 and max(ids) < self.vocab_size):
            return
        wrong = next(i for i in ids if type(i) is not int or not 0 <= i < self.vocab_size)
        raise AdmissionError(
            f"{param}: {wrong!r} is not a token id of this model; expected integers from 0 to "
            f"{self.vocab_size - 1}",
            param,
        )
