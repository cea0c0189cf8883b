"""What the engine gives back."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

FinishReason = Literal["stop", "length", "abort", "error"]

MORE_TO_COME = (None, None, None, None, None, 0.0)  # the last fields of most outputs


class TokenLogprobs(NamedTuple):
    """Log-probabilities (nats) at one generated token, of the model's raw distribution.

    Attributes:
        token_id: the token chosen.
        logprob: its log-probability.
        top: the most probable tokens with theirs, best first; may be empty.
    """

    token_id: int
    logprob: float
    top: list[tuple[int, float]]


@dataclass(slots=True)
class Output:
    """One increment of one sequence.

    Attributes:
        request_id: the call it belongs to.
        index: which of the n sequences of that call.
        prompt_tokens: length of the prompt.
        completion_tokens: tokens generated so far.
        cached_tokens: tokens of the prompt that were found in the cache and not computed.
        text: new text; never half a character, stop strings held back and left out.
        token_ids: new tokens, those of a stop string and an end-of-text token included.
        logprobs: one entry a new token, if asked for.
        finish_reason: None while more will come.
        stop_reason: the stop string or stop token id that ended it; None for end-of-text and other reasons.
        error: what went wrong, with finish_reason "error".
        blames: the sampling parameter that is at fault for the error; None for a fault of the engine.
        seconds: from the first to the last of its tokens, where it was held back.
    """

    request_id: str
    index: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    error: str | None = None
    blames: str | None = None
    seconds: float = 0.0

    def __reduce__(self) -> tuple[type["Output"], tuple[Any, ...]]:
        """Be pickled in less than half the time: the outputs of each step go to another process."""
        values = (
            self.request_id,
            self.index,
            self.prompt_tokens,
            self.completion_tokens,
            self.cached_tokens,
            self.text,
            self.token_ids,
        )
        rest = (self.logprobs, self.finish_reason, self.stop_reason, self.error, self.blames, self.seconds)
        return Output, values if rest == MORE_TO_COME else values + rest

    def merge(self, later: "Output") -> None:
        """Take in a later increment of the same sequence, as if both had come at once."""
        self.completion_tokens = later.completion_tokens
        self.cached_tokens = later.cached_tokens
        self.text += later.text
        self.token_ids += later.token_ids
        if self.logprobs is not None:
            self.logprobs += later.logprobs or []
        else:
            self.logprobs = later.logprobs
        self.finish_reason = later.finish_reason
        self.stop_reason = later.stop_reason
        self.error = later.error
        self.blames = later.blames


class EngineStats(NamedTuple):
    """Counters and gauges of an engine.

    Attributes:
        running: sequences holding cache blocks.
        waiting: sequences waiting for room.
        free_blocks: cache blocks free.
        total_blocks: cache blocks in all.
        preemptions: times a running sequence had to give its blocks back.
        prompt_tokens_total: prompt tokens of all sequences that reached their first token.
        generation_tokens_total: tokens generated.
        steps_total: steps run.
        last_step_seconds: wall time of the last step.
        prefix_queries_total: tokens of the sequences admitted.
        prefix_hits_total: those of them whose keys and values were found in the cache.
        drafts_total: drafts that were verified.
        draft_tokens_total: tokens guessed in them.
        accepted_tokens_total: tokens guessed right.
        peak_memory_bytes: most memory that the engine's process has held.
        adapter_slots: most adapters of one step.
        adapters_running: the names of those that running sequences have.
        adapters_waiting: the names of those that waiting sequences have.
    """

    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    preemptions: int
    prompt_tokens_total: int
    generation_tokens_total: int
    steps_total: int
    last_step_seconds: float
    prefix_queries_total: int
    prefix_hits_total: int
    drafts_total: int
    draft_tokens_total: int
    accepted_tokens_total: int
    peak_memory_bytes: int
    adapter_slots: int = 0
    adapters_running: tuple[str, ...] = ()
    adapters_waiting: tuple[str, ...] = ()
