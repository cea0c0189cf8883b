"""Reads texts without answering them: the log-probabilities of their tokens, and their embeddings.

A text that is only read needs no place in the paged cache. It goes through the model beside the engine's
steps, in pieces of about a step's size (see `AsyncEngine.between_steps`), so that answers under way hardly
wait for it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.engine.outputs import TokenLogprobs
from byollm.engine.sampler import report_logprobs
from byollm.modeling import Decoder


class Reading:
    """One text on its way through the model, a chunk of tokens at a time.

    Args:
        decoder: the model.
        tokens: the text, at least one token and at most as many as the model has positions.
        chunk: most tokens to compute at once.
    """

    def __init__(self, decoder: Decoder, tokens: Sequence[int], chunk: int) -> None:
        self.tokens = list(tokens)
        self.done = 0
        self._decoder = decoder
        self._chunk = chunk
        self._past: list[tuple[Tensor, Tensor] | None] = [None] * decoder.config.layers

    @property
    def finished(self) -> bool:
        """Whether the whole text is read."""
        return self.done == len(self.tokens)

    @torch.inference_mode()
    def _advance(self) -> Tensor:
        """Read the next chunk and return its final hidden states, (chunk, hidden)."""
        start, end = self.done, min(self.done + self._chunk, len(self.tokens))
        device = self._decoder.head_weight.device
        tokens = torch.tensor(self.tokens[start:end], device=device)
        hidden: Tensor = self._decoder(tokens, torch.arange(start, end, device=device), self._attend)
        self.done = end
        return hidden

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to the text so far; q (time, heads, head_dim), k and v (time, kv_heads, head_dim)."""
        if (past := self._past[layer]) is not None:
            k, v = torch.cat([past[0], k]), torch.cat([past[1], v])
        self._past[layer] = (k, v)
        behind = torch.arange(len(k) - len(q), len(k), device=q.device)[:, None]
        behind = behind - torch.arange(len(k), device=q.device)  # (time, so far)
        seen = behind >= 0
        if (window := self._decoder.config.window(layer)) is not None:
            seen &= behind < window
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, heads, time, head_dim)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=q.shape[1] != k.shape[1])
        return out[0].transpose(0, 1)


class Scoring(Reading):
    """Finds how probable each token of a text is after those before it.

    Args:
        decoder: the model.
        tokens: the text.
        chunk: most tokens to compute at once.
        top: how many of the most probable tokens to report at each place.
    """

    def __init__(self, decoder: Decoder, tokens: Sequence[int], chunk: int, top: int) -> None:
        super().__init__(decoder, tokens, chunk)
        self.logprobs: list[TokenLogprobs] = []
        """One entry a token, from the second on; the first comes after nothing."""
        self._top = top

    @torch.inference_mode()
    def advance(self) -> None:
        """Read the next chunk."""
        start = self.done
        hidden = self._advance()
        following = self.tokens[start + 1 : self.done + 1]
        if following:
            logits = self._decoder.logits(hidden[: len(following)]).float()
            self.logprobs += report_logprobs(logits.log_softmax(-1), following, [self._top] * len(following))


class Embedding(Reading):
    """Averages the final hidden states of a text, scaled to length 1."""

    def __init__(self, decoder: Decoder, tokens: Sequence[int], chunk: int) -> None:
        super().__init__(decoder, tokens, chunk)
        self._sum = torch.zeros(decoder.config.hidden_size, device=decoder.head_weight.device)

    @torch.inference_mode()
    def advance(self) -> None:
        """Read the next chunk."""
        self._sum += self._advance().float().sum(0)

    @property
    def vector(self) -> Tensor:
        """The embedding, (hidden,) float32 on the CPU."""
        return F.normalize(self._sum, dim=0).cpu()


@torch.inference_mode()
def embed_together(decoder: Decoder, texts: Sequence[Sequence[int]]) -> Tensor:
    """Return the embeddings of short texts of similar lengths, (texts, hidden) float32 on the CPU."""
    device = decoder.head_weight.device
    longest = max(map(len, texts))
    # Padding comes last, where nothing before it sees it.
    padded = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)
    at = torch.arange(longest, device=device)
    lengths = torch.tensor([[len(text)] for text in texts], device=device)
    hidden = decoder(padded, at).float()  # (texts, longest, hidden)
    summed = (hidden * (at < lengths)[..., None]).sum(1)
    return F.normalize(summed, dim=-1).cpu()


def group_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Put texts of similar lengths into groups of at most `budget` tokens, padding counted.

    A text longer than that is a group of its own.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if groups and (len(groups[-1]) + 1) * lengths[index] <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
