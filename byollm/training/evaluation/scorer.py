"""A decoder as lm-eval sees it: something that gives the log-likelihood of a text after another."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor

from byollm.modeling import Decoder, Tokenizer
from byollm.training.evaluation.errors import EvaluationError

END_OF_TEXT = "<|endoftext|>"
TOKENS_A_BATCH = {"cpu": 1024, "cuda": 65_536}  # a CPU's cache wants few, a GPU many

Advance = Callable[[int, int], None]
"""Called with how many requests are done, and of how many."""


class DecoderScorer(TemplateLM):  # type: ignore[misc]  # lm-eval carries no types
    """Scores texts with a decoder: batches of similar length, longest first, sums in float64.

    A text without a context follows the token that documents begin with in training, as it did there.

    Args:
        decoder: in the precision and on the device in which it shall score; left in evaluation mode
        tokenizer: its tokenizer
        advance: told of progress
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, advance: Advance | None = None) -> None:
        super().__init__()
        self.decoder = decoder.eval()
        self.text = tokenizer
        self.max_length = decoder.config.max_positions
        self.advance = advance

    @property
    def eot_token_id(self) -> int:
        """The token that stands before a text."""
        return document_start(self.text)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Encode plain text; nothing is added to it."""
        return self.text.encode(string)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation of a context, and whether it is the greedy one."""
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scores

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """Return the log-likelihood of each whole text, in windows of the model's context."""
        windows = [
            [
                (("", ""), *make_disjoint_window(window))
                for window in get_rolling_token_windows(
                    self.tok_encode(request.args[0]), self.eot_token_id, self.max_length, context_len=1
                )
            ]
            for request in requests
        ]
        scores = iter(self._loglikelihood_tokens([window for text in windows for window in text]))
        return [sum(next(scores)[0] for _ in text) for text in windows]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """Refuse: the scorer compares likelihoods.

        Raises:
            EvaluationError: always.
        """
        raise EvaluationError(
            f"task {requests[0].task_name} lets the model write; `byollm evaluate` runs tasks that compare "
            "likelihoods. For this one, serve the model and run lm-eval's local-completions against it"
        )

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        texts = [(context, continuation) for _, context, continuation in requests]
        longest = max((len(continuation) for _context, continuation in texts), default=0)
        if longest > self.max_length:
            raise EvaluationError(
                f"a continuation of {longest} tokens does not fit the model's context of {self.max_length}; "
                "choose a task with shorter texts"
            )
        scores: list[tuple[float, bool]] = [(0.0, True)] * len(texts)
        done = 0
        for batch in self._batches(texts):
            for index, score in zip(batch, self._score([texts[i] for i in batch]), strict=True):
                scores[index] = score
            done += len(batch)
            if self.advance is not None:
                self.advance(done, len(texts))
        return scores

    def _batches(self, texts: Sequence[tuple[list[int], list[int]]]) -> Iterator[list[int]]:
        """Yield indices of texts of similar length, the longest first: want of memory shows at once."""
        budget = TOKENS_A_BATCH[self.decoder.head_weight.device.type]
        order = sorted(range(len(texts)), key=lambda i: -sum(map(len, texts[i])))
        while order:
            longest = min(sum(map(len, texts[order[0]])) - 1, self.max_length)
            size = max(1, budget // max(1, longest))
            yield order[:size]
            order = order[size:]

    def _score(self, texts: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        # What comes before the window is forgotten, as far as the context is short of room.
        rows = [(context + continuation)[-(self.max_length + 1) :] for context, continuation in texts]
        longest = max(len(row) for row in rows) - 1
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        targets = torch.full((len(rows), longest), -1)
        for i, (row, (_, continuation)) in enumerate(zip(rows, texts, strict=True)):
            tokens[i, : len(row) - 1] = torch.tensor(row[:-1])
            targets[i, len(row) - 1 - len(continuation) : len(row) - 1] = torch.tensor(continuation)
        device = self.decoder.head_weight.device
        tokens, targets = tokens.to(device), targets.to(device)
        # Padding stands on the right, where causal attention never looks from a token that counts.
        hidden = self.decoder(tokens, torch.arange(longest, device=device))
        scored = targets >= 0
        likelihoods, greedy = token_scores(self.decoder.logits(hidden[scored]), targets[scored])
        of_row = scored.nonzero()[:, 0]
        sums = torch.zeros(len(rows), dtype=torch.float64, device=device).index_add_(0, of_row, likelihoods)
        misses = torch.zeros(len(rows), dtype=torch.long, device=device).index_add_(
            0, of_row, (~greedy).long()
        )
        return [(total, missed == 0) for total, missed in zip(sums.tolist(), misses.tolist(), strict=True)]


def token_scores(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return each target's log-likelihood (float64), and whether it is the likeliest token.

    Args:
        logits: (tokens, vocab)
        targets: (tokens,)
    """
    logits = logits.float()
    chosen = logits.gather(-1, targets[:, None])[:, 0]
    return (chosen - logits.logsumexp(-1)).double(), logits.argmax(-1) == targets


def document_start(tokenizer: Tokenizer) -> int:
    """Return the token that a document follows: bos, else <|endoftext|>, else the end of sequence.

    Raises:
        EvaluationError: the tokenizer has none of them.
    """
    if tokenizer.bos_id is not None:
        return tokenizer.bos_id
    ids = tokenizer.encode(END_OF_TEXT)
    if len(ids) == 1:
        return ids[0]
    if tokenizer.eos_id is not None:
        return tokenizer.eos_id
    raise EvaluationError(
        f"the tokenizer has neither a bos token nor {END_OF_TEXT} nor an eos token to start a text with; "
        "name one in its tokenizer_config.json"
    )
