"""Reads texts without answering them: the log-probabilities of their tokens, and their embeddings.

A text that is only read needs no place in the paged cache. It goes through the model beside the engine's
steps, in pieces of about a step's size, so that answers under way hardly wait for it: the generators here
yield after each piece.
"""

from collections.abc import Generator, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.engine.outputs import TokenLogprobs
from byollm.engine.sampler import report_logprobs
from byollm.modeling import Decoder

T = TypeVar("T")

Piecewise = Generator[None, None, T]
"""Yields after each piece of work, and returns what came of all."""


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
    def advance(self) -> Tensor:
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


@torch.inference_mode()
def score(decoder: Decoder, tokens: Sequence[int], top: int, chunk: int) -> Piecewise[list[TokenLogprobs]]:
    """Find how probable each token of a text is after those before it.

    Args:
        decoder: the model.
        tokens: the text.
        top: how many of the most probable tokens to report at each place.
        chunk: most tokens to compute at once.

    Returns:
        One entry a token, from the second on; the first comes after nothing.
    """
    logprobs: list[TokenLogprobs] = []
    reading = Reading(decoder, tokens, chunk)
    while not reading.finished:
        start = reading.done
        hidden = reading.advance()
        following = reading.tokens[start + 1 : reading.done + 1]
        if following:
            logits = decoder.logits(hidden[: len(following)]).float()
            logprobs += report_logprobs(logits.log_softmax(-1), following, [top] * len(following))
        yield
    return logprobs


@torch.inference_mode()
def embed(decoder: Decoder, texts: Sequence[Sequence[int]], chunk: int) -> Piecewise[list[bytes]]:
    """Average the final hidden states of each text, scaled to length 1.

    Args:
        decoder: the model.
        texts: token ids, at least one a text.
        chunk: most tokens to compute at once; short texts of similar lengths go together.

    Returns:
        For each text `hidden_size` little-endian float32 numbers.
    """
    vectors = [b""] * len(texts)
    for group in group_by_length(list(map(len, texts)), chunk):
        if len(texts[group[0]]) > chunk:
            reading = Reading(decoder, texts[group[0]], chunk)
            total = torch.zeros(decoder.config.hidden_size, device=decoder.head_weight.device)
            while not reading.finished:
                total += reading.advance().float().sum(0)
                yield
            rows = F.normalize(total, dim=0)[None]
        else:
            rows = _embed_together(decoder, [texts[index] for index in group])
            yield
        for index, row in zip(group, rows.cpu().numpy().astype("<f4"), strict=True):
            vectors[index] = row.tobytes()
    return vectors


@torch.inference_mode()
def _embed_together(decoder: Decoder, texts: Sequence[Sequence[int]]) -> Tensor:
    """Return the embeddings of short texts of similar lengths, (texts, hidden) float32."""
    device = decoder.head_weight.device
    longest = max(map(len, texts))
    # Padding comes last, where nothing before it sees it.
    padded = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)
    at = torch.arange(longest, device=device)
    lengths = torch.tensor([[len(text)] for text in texts], device=device)
    hidden = decoder(padded, at).float()  # (texts, longest, hidden)
    summed = (hidden * (at < lengths)[..., None]).sum(1)
    return F.normalize(summed, dim=-1)


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
