"""How well a model predicts the text that `byollm data prepare` held out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from byollm.data import TokenDataset
from byollm.modeling import Decoder
from byollm.training.evaluation.errors import EvaluationError
from byollm.training.evaluation.progress import Advance
from byollm.training.hardware import Hardware
from byollm.training.validation import Validation, Validator


class _Watched(TokenDataset):
    """A split that tells how far it has been read."""

    advance: Advance | None = None

    def windows(self, length: int) -> Iterator[tuple[Tensor, Tensor]]:
        total = -(-(self.tokens - 1) // length)
        for done, window in enumerate(super().windows(length), 1):
            yield window
            if self.advance is not None:
                self.advance(done, total)


def validate_held_out(
    decoder: Decoder,
    tokenizer: Path,
    prepared: Path,
    length: int,
    batch_size: int,
    advance: Advance | None = None,
    tokens: int | None = None,
) -> Validation:
    """Return loss, accuracy and bits per byte over the `val` split, in float32.

    Args:
        decoder: the model, in float32
        tokenizer: its tokenizer.json
        prepared: a directory that `byollm data prepare` wrote
        length: tokens in a row; each row starts without context
        batch_size: rows computed at a time
        advance: told of progress
        tokens: about so many, spread over the split; None: all of it

    Raises:
        EvaluationError: the text was prepared with another tokenizer.
        DataError: the directory was not prepared, or not to the end.
    """
    rows = _Watched.open(prepared, "val")
    if _vocabulary(tokenizer) != _vocabulary(prepared / "tokenizer" / "tokenizer.json"):
        raise EvaluationError(
            f"{prepared} was prepared with another tokenizer than the model's ({tokenizer}); name the data "
            "that the model was trained on"
        )
    hardware = Hardware(decoder.device, torch.float32)
    validator = Validator(rows, rows.bytes / rows.tokens, length, batch_size, hardware)
    rows.advance = advance
    return validator.validate(decoder, tokens)


def same_tokenizer(tokenizer: Path, prepared: Path) -> bool:
    """Whether data were prepared with the tokenizer in this tokenizer.json; no, where either is not there."""
    own = prepared / "tokenizer" / "tokenizer.json"
    return tokenizer.is_file() and own.is_file() and _vocabulary(tokenizer) == _vocabulary(own)


def _vocabulary(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{file}: not a tokenizer that can be read ({error}); copy it afresh"
        ) from error
