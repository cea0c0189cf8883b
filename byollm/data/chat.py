"""Conversations as training rows: encoded as ChatML, several packed into a row, loss on the answers only.

A conversation is encoded exactly as the tokenizer's chat template would have it, except that control tokens
inside a message are spelled out. Rows hold whole conversations, each followed by `<|endoftext|>`:

    tokens   <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n Hello <|im_end|> \\n<|endoftext|> ...
    targets  ------------------------- ignored ---------------------- Hello <|im_end|> ------ ignored ------
"""

import json
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byollm.data.chat_formats import Messages, ShapeError, validated
from byollm.data.errors import DataError
from byollm.data.tokenizer import END_OF_TEXT, MESSAGE_END, MESSAGE_START, TextEncoder
from byollm.data.tokens import IGNORED, epoch_order

BATCH = 1024  # conversations encoded at a time


@dataclass(frozen=True)
class _Encoded:
    """A conversation: its tokens, which of them are answers, and the lengths at which it may end."""

    tokens: NDArray[np.int32]
    answer: NDArray[np.bool_]
    ends: tuple[int, ...]


class ConversationDataset:
    """One split of a directory that `byollm data conversations` wrote, encoded by a model's tokenizer.

    The encoded conversations are held in memory (four bytes and a flag a token). A conversation longer than a
    row loses its last turns, down to the first answer; one whose first answer does not fit is left out and
    counted by `skipped`.
    """

    def __init__(self, encoded: list[_Encoded], separator: int, vocab_size: int, answer_bytes: int) -> None:
        self._encoded, self._separator = encoded, separator
        self._packed: dict[int, list[list[tuple[int, int]]]] = {}
        self.conversations = len(encoded)
        self.tokens = sum(len(conversation.tokens) for conversation in encoded)
        """Tokens of all conversations, without separators."""
        self.answer_tokens = sum(int(conversation.answer.sum()) for conversation in encoded)
        """Tokens that are targets when every conversation fits."""
        self.bytes = answer_bytes
        """Bytes of the answers' text."""
        self.vocab_size = vocab_size

    @classmethod
    def open(cls, directory: Path | str, split: str, tokenizer: Path | str) -> Self:
        """Open `split` (`train` or `val`) and encode it with the tokenizer in the directory `tokenizer`.

        Raises:
            DataError: a file is missing or damaged, or the tokenizer has no ChatML control tokens.
        """
        encoder = _ChatEncoder(TextEncoder(Path(tokenizer)))
        encoded, answer_bytes, held = list[_Encoded](), 0, list[Messages]()
        for messages in _read(Path(directory) / f"{split}.jsonl"):
            answer_bytes += sum(len(m["content"].encode()) for m in messages if m["role"] == "assistant")
            held.append(messages)
            if len(held) == BATCH:
                encoded += encoder.encode(held)
                held = []
        encoded += encoder.encode(held)
        return cls(encoded, encoder.separator, encoder.vocab_size, answer_bytes)

    def windows_per_epoch(self, length: int) -> int:
        """Return how many rows of `length` tokens an epoch has."""
        count = len(self._rows(length))
        if count < 1:
            raise DataError(
                f"none of the {self.conversations:,} conversations fits into {length:,} tokens. "
                "Prepare others, or train with a longer context."
            )
        return count

    def skipped(self, length: int) -> int:
        """Return how many conversations are left out of rows of `length` tokens."""
        return self.conversations - sum(len(row) for row in self._rows(length))

    def batch(self, step: int, batch_size: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return (inputs, targets) of training step `step`, both (batch_size, length) int64.

        A pure function of its arguments and the data. An epoch visits each row once in an order of its own.
        """
        per_epoch = self.windows_per_epoch(length)
        rows = []
        for row in range(step * batch_size, (step + 1) * batch_size):
            epoch, place = divmod(row, per_epoch)
            rows.append(self._row(int(epoch_order(per_epoch, seed, epoch)[place]), length))
        inputs, targets = zip(*rows, strict=True)
        return torch.stack(inputs), torch.stack(targets)

    def windows(self, length: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets), both (length,) int64, of every row in order: for validation."""
        for index in range(self.windows_per_epoch(length)):
            yield self._row(index, length)

    def _row(self, index: int, length: int) -> tuple[Tensor, Tensor]:
        tokens = np.full(length + 1, self._separator, dtype=np.int64)
        answer = np.zeros(length + 1, dtype=np.bool_)
        start = 0
        for place, count in self._rows(length)[index]:
            conversation = self._encoded[place]
            tokens[start : start + count] = conversation.tokens[:count]
            answer[start : start + count] = conversation.answer[:count]
            start += count + 1  # behind it a separator, which the row is filled with
        targets = np.where(answer, tokens, IGNORED)
        return torch.from_numpy(tokens[:-1].copy()), torch.from_numpy(targets[1:].copy())

    def _rows(self, length: int) -> list[list[tuple[int, int]]]:
        """Return for each row its conversations as (place, tokens used): packed longest first, best fit."""
        if length in self._packed:
            return self._packed[length]
        fitting = []
        for place, conversation in enumerate(self._encoded):
            used = max((end for end in conversation.ends if end <= length + 1), default=0)
            if used:
                fitting.append((used, place))
        fitting.sort(key=lambda pair: (-pair[0], pair[1]))
        rows: list[list[tuple[int, int]]] = []
        free: list[tuple[int, int]] = []  # (tokens left, row), sorted
        for used, place in fitting:
            index = bisect_left(free, (used, 0))
            if index < len(free):
                left, row = free.pop(index)
            else:
                left, row = length + 1, len(rows)
                rows.append([])
            rows[row].append((place, used))
            if left - used - 1 > 0:
                insort(free, (left - used - 1, row))
        self._packed[length] = rows
        return rows


class _ChatEncoder:
    """Encodes conversations as the ChatML template does, knowing which tokens are answers."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._start, self._end = encoder.control(MESSAGE_START), encoder.control(MESSAGE_END)
        self.separator, self.vocab_size = encoder.control(END_OF_TEXT), encoder.vocab_size
        self._newline = encoder.encode(["\n"])[0].tolist()
        self._headers = {
            role: [self._start, *encoder.encode([f"{role}\n"])[0].tolist()]
            for role in ("system", "user", "assistant")
        }

    def encode(self, batch: list[Messages]) -> list[_Encoded]:
        # a content is encoded apart from its header: what a prompt ends with must not depend on the answer
        contents = iter(self._encoder.encode([turn["content"] for messages in batch for turn in messages]))
        return [self._join([(turn["role"], next(contents)) for turn in messages]) for messages in batch]

    def _join(self, turns: list[tuple[str, NDArray[np.int64]]]) -> _Encoded:
        tokens, answer, ends = list[int](), list[bool](), list[int]()
        for role, content in turns:
            header, body = self._headers[role], [*content.tolist(), self._end]
            tokens += header + body + self._newline
            answer += [False] * len(header) + [role == "assistant"] * len(body) + [False] * len(self._newline)
            if role == "assistant":
                ends.append(len(tokens))
        return _Encoded(np.array(tokens, dtype=np.int32), np.array(answer, dtype=np.bool_), tuple(ends))


def _read(file: Path) -> Iterator[Messages]:
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        raise DataError(
            f"{file}: no prepared conversations here. Run `byollm data conversations --out {file.parent}`."
        ) from None
    with stream:
        for number, line in enumerate(stream, start=1):
            try:
                row: Any = json.loads(line.decode())
                yield validated(row["messages"], len(line))
            except (ValueError, KeyError, TypeError, AttributeError, ShapeError) as error:
                raise DataError(
                    f"{file}, line {number}: not a canonical conversation ({error!r}). "
                    "`byollm data conversations` makes such files."
                ) from error
