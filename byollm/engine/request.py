"""One sequence on its way through the engine."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from byollm.engine.adapters import BASE, LoadedAdapter
from byollm.engine.outputs import FinishReason, Output
from byollm.engine.sampling_params import SamplingParams
from byollm.engine.text_stream import TextStream

if TYPE_CHECKING:
    from byollm.engine.grammar_state import GrammarState
    from byollm.engine.speculation import History

UNREAD = -1
"""Stands for a token that was chosen on the device and has not been read from it yet."""


@dataclass(eq=False, slots=True)
class Request:
    """One sequence: its tokens, how far they are computed, and the cache blocks it holds.

    A call with n > 1 becomes n of these, told apart by `index`.

    Attributes:
        request_id: the caller's name for the call.
        index: 0 to n - 1.
        tokens: prompt and answer so far; the last one may be UNREAD while a step is under way.
        prompt_length: how many of `tokens` are the prompt.
        params: how to sample.
        seed: what the draws of this sequence depend on, beside the position.
        max_tokens: most tokens to generate, resolved against context and cache.
        text: turns answer tokens into text.
        endings: tokens that would end the answer, which must not come before `params.min_tokens`.
        grammar: where the answer is in its grammar, if it has to follow one.
        computed: how many of `tokens` have their keys and values in the cache.
        blocks: ids of the cache blocks held, in order of position.
        counts: how often each token stands in the answer; kept only where a penalty needs it.
        salt: sequences share cache blocks only where this is equal; for whatever else than the tokens their
            contents depend on, or for tenants that must not learn of each other.
        adapter: what changes the model for this sequence; None: nothing.
        slot: where the adapter stands while the sequence runs.
        overtaken: how often another with an adapter was admitted before this one, as it waited for a slot.
        keys: of the first full blocks, as far as they were needed.
        published: how many of `blocks` can be found by their keys.
        cached: how many tokens were found in the cache when the sequence was first admitted; None before.
        history: what drafts are made from; None before the first.
        plain: whether each token depends on its logits, `params` and `seed` alone, and nothing but its id is
            wanted.
        choice: how the compiled sampler is to choose; empty before it first does.
    """

    request_id: str
    index: int
    tokens: list[int]
    prompt_length: int
    params: SamplingParams
    seed: int
    max_tokens: int
    text: TextStream
    endings: tuple[int, ...] = ()
    grammar: "GrammarState | None" = None
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    salt: str = ""
    adapter: LoadedAdapter | None = None
    slot: int = BASE
    overtaken: int = 0
    keys: list[bytes] = field(default_factory=list)
    published: int = 0
    cached: int | None = None
    history: "History | None" = None
    plain: bool = field(init=False)
    choice: bytes = b""

    def __post_init__(self) -> None:
        self.plain = self.params.logprobs is None and not self.params.adjusted and self.grammar is None

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far, and read."""
        return len(self.tokens) - self.prompt_length - (self.tokens[-1] == UNREAD)

    @property
    def exhausted(self) -> bool:
        """Whether a token that is not read yet is the last that it may have."""
        return self.tokens[-1] == UNREAD and len(self.tokens) - self.prompt_length >= self.max_tokens

    @property
    def remaining(self) -> int:
        """Known tokens whose keys and values are not yet in the cache."""
        return len(self.tokens) - self.computed

    def ending(self, finish_reason: FinishReason) -> Output:
        """Return the last increment of a sequence that gets no more tokens."""
        return Output(
            request_id=self.request_id,
            index=self.index,
            prompt_tokens=self.prompt_length,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached or 0,
            finish_reason=finish_reason,
        )

    def append(self, token_id: int) -> None:
        """Add one generated token."""
        self.tokens.append(token_id)
        if self.plain:
            return
        if self.params.penalised:
            self.counts[token_id] = self.counts.get(token_id, 0) + 1
        if self.grammar is not None:
            self.grammar.advance(token_id)
