"""One sequence as vLLM runs it, and what its results become."""

from dataclasses import dataclass
from typing import Any

from byollm.engine.outputs import FinishReason, Output
from byollm.engine.sampling_params import SamplingParams
from byollm.engine.vllm_params import read_logprobs

ENDINGS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort"}


@dataclass(eq=False, slots=True)
class VllmRequest:
    """One of the sequences of a call.

    Attributes:
        request_id: the call.
        index: which of its sequences.
        params: as asked.
        prompt: what vLLM is given as a prompt,
        arguments: and how to continue it.
        adapter: what `adapters.find` gave.
        prompt_tokens: length of the prompt.
        completion_tokens: so far.
    """

    request_id: str
    index: int
    params: SamplingParams
    prompt: Any
    arguments: Any
    adapter: Any
    prompt_tokens: int
    completion_tokens: int = 0

    @property
    def name(self) -> str:
        """What vLLM calls it: its own `n` is not used, since it refuses that for greedy answers."""
        return f"{self.request_id}/{self.index}"

    def increment(self, result: Any) -> Output:
        """Read one of vLLM's results, which has what is new."""
        (part,) = result.outputs
        token_ids = list(part.token_ids)
        self.completion_tokens += len(token_ids)
        output = Output(
            self.request_id,
            self.index,
            self.prompt_tokens,
            self.completion_tokens,
            max(result.num_cached_tokens or 0, 0),
            part.text,
            token_ids,
        )
        if self.params.logprobs is not None:
            output.logprobs = [
                read_logprobs(token, ranked, self.params.logprobs)
                for token, ranked in zip(token_ids, part.logprobs, strict=True)
            ]
        if part.finish_reason is not None:
            output.finish_reason = ENDINGS.get(part.finish_reason, "error")
            if output.finish_reason == "error":
                output.error = f"vLLM ended it with {part.finish_reason!r}"
            if isinstance(part.stop_reason, str) or part.stop_reason in self.params.stop_token_ids:
                output.stop_reason = part.stop_reason
        return output

    def ending(self, reason: FinishReason, error: str | None = None, blames: str | None = None) -> Output:
        """The last output of a sequence that vLLM does not finish."""
        return Output(
            self.request_id,
            self.index,
            self.prompt_tokens,
            self.completion_tokens,
            finish_reason=reason,
            error=error,
            blames=blames,
        )
