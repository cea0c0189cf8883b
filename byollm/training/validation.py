"""How well a model predicts text that it was not trained on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.modeling import Decoder
from byollm.training.hardware import Hardware
from byollm.training.loss import IGNORED
from byollm.training.rows import Rows


@dataclass(frozen=True)
class Validation:
    """What a validation found."""

    loss: float
    """Mean nats a token."""
    accuracy: float
    """Share of the tokens that were the likeliest to the model, 0 to 1."""
    bits_per_byte: float
    """loss * tokens / (ln 2 * bytes): compares models with different tokenizers."""
    tokens: int
    """Tokens predicted."""

    @property
    def perplexity(self) -> float:
        """The number of tokens, all as likely, among which the model might as well choose."""
        return math.exp(self.loss)


class Validator:
    """Validates on a split, or on rows spread evenly over it.

    Args:
        rows: the split
        bytes_per_token: text bytes for each token that counts, over the whole split
        length: tokens in a row
        batch_size: rows computed at a time
    """

    def __init__(
        self, rows: Rows, bytes_per_token: float, length: int, batch_size: int, hardware: Hardware
    ) -> None:
        self._rows, self._bytes_per_token = rows, bytes_per_token
        self._length, self._batch_size, self._hardware = length, batch_size, hardware
        self.windows = sum(1 for _ in rows.windows(length))

    @torch.no_grad()
    def validate(self, model: Decoder, tokens: int | None = None) -> Validation:
        """Validate on about `tokens` tokens, spread over the split; None: on all of it."""
        stride = 1 if tokens is None else max(1, round(self.windows * self._length / tokens))
        loss = correct = torch.zeros((), dtype=torch.float64)
        count = 0
        positions = torch.arange(self._length, device=self._hardware.device)
        for inputs, targets in self._batches(stride):
            with self._hardware.autocast():
                hidden = model(inputs, positions)
                for row, wanted in zip(hidden, targets, strict=True):  # a row's scores at a time: memory
                    scores = model.logits(row).float()
                    loss = loss + F.cross_entropy(scores, wanted, ignore_index=IGNORED, reduction="sum").cpu()
                    correct = correct + (scores.argmax(-1) == wanted).sum().cpu()
            count += int((targets != IGNORED).sum())
        mean = loss.item() / count
        return Validation(
            loss=mean,
            accuracy=correct.item() / count,
            bits_per_byte=mean / (math.log(2) * self._bytes_per_token),
            tokens=count,
        )

    def _batches(self, stride: int) -> Iterator[tuple[Tensor, Tensor]]:
        windows = islice(self._rows.windows(self._length), 0, None, stride)
        while batch := list(islice(windows, self._batch_size)):
            inputs, targets = (
                torch.stack(part).to(self._hardware.device) for part in zip(*batch, strict=True)
            )
            yield inputs, targets
