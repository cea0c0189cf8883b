"""The numbers of one step on their way to the GPU: two tensors, whatever the step, so two copies."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from byollm.engine.kv_cache import BLOCK_SIZE
from byollm.engine.pieces import Piece
from byollm.engine.sampling_params import SamplingParams

ROW_FIELDS = 5  # token, source, position, cell, adapter
SAMPLE_FIELDS = 7  # row, place, seed, top_k, temperature, top_p, min_p


class Sampled(NamedTuple):
    """Where a token is to be chosen.

    Attributes:
        row: of the batch, whose logits choose it.
        place: where in its sequence it is to stand.
        params: how it is chosen.
        seed: of its sequence.
    """

    row: int
    place: int
    params: SamplingParams
    seed: int


class Layout(NamedTuple):
    """The sizes of a batch.

    Attributes:
        rows: tokens.
        sequences: to which they belong.
        singles: how many sequences, the first ones, have one row.
        samples: tokens to choose.
        width: cache blocks of a sequence at most.
    """

    rows: int
    sequences: int
    singles: int
    samples: int
    width: int


class Batch:
    """What a step reads, as views of two tensors; on the host, to be filled, or on the device.

    Attributes:
        tokens: (rows,) token ids; one that stands for itself only where `sources` is below 0.
        sources: (rows,) which of the tokens chosen last goes there.
        positions: (rows,) in their sequences.
        cells: (rows,) where keys and values go: block * BLOCK_SIZE + offset; below 0: nowhere.
        adapters: (rows,) slots.
        samples: (7, samples): row, place, seed, top_k, and as float64 temperature, top_p, min_p.
        lengths: (sequences,) int32, tokens in the cache after this step.
        starts: (sequences,) int32, position of the first row.
        first_rows: (longer sequences + 1,) int32, counted from the first row after the singles.
        tables: (sequences, width) int32, cache blocks.
    """

    def __init__(self, layout: Layout, device: torch.device | str, pinned: bool = False) -> None:
        rows, sequences, singles, samples, width = self.layout = layout
        self._wide = torch.zeros(
            ROW_FIELDS * rows + SAMPLE_FIELDS * samples, dtype=torch.int64, device=device, pin_memory=pinned
        )
        longs = sequences - singles + 1
        self._narrow = torch.zeros(
            (2 + width) * sequences + longs, dtype=torch.int32, device=device, pin_memory=pinned
        )
        per_row = self._wide[: ROW_FIELDS * rows].view(ROW_FIELDS, rows)
        self.tokens, self.sources, self.positions, self.cells, self.adapters = per_row
        self.samples = self._wide[ROW_FIELDS * rows :].view(SAMPLE_FIELDS, samples)
        self.lengths, self.starts = self._narrow[: 2 * sequences].view(2, sequences)
        self.first_rows = self._narrow[2 * sequences : 2 * sequences + longs]
        self.tables = self._narrow[2 * sequences + longs :].view(sequences, width)

    def copy_(self, other: "Batch") -> None:
        """Take the numbers of another batch with the same layout, without waiting for it."""
        self._wide.copy_(other._wide, non_blocking=True)
        self._narrow.copy_(other._narrow, non_blocking=True)

    def fill(self, pieces: Sequence[Piece], sources: Sequence[int], samples: Sequence[Sampled]) -> None:
        """Set the numbers, on the host.

        Args:
            pieces: those of one token first; where there are fewer than sequences in the layout, the rest
                goes nowhere.
            sources: for each piece, which of the tokens chosen last is its last token; below 0: none.
            samples: the tokens to choose.
        """
        numbers: list[list[int]] = [[], [], [], [], []]
        tokens, origins, positions, cells, adapters = numbers
        starts, lengths, first_rows = [], [], [0]
        tables = self.tables.numpy()
        for index, (piece, source) in enumerate(zip(pieces, sources, strict=True)):
            start, end, blocks = piece.start, piece.end, piece.blocks
            tokens += piece.tokens
            origins += [-1] * (end - start - 1) + [source]
            positions += range(start, end)
            cells += [blocks[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE for at in range(start, end)]
            adapters += [piece.slot] * (end - start)
            starts.append(start)
            lengths.append(end)
            used = -(-end // BLOCK_SIZE)
            tables[index, :used] = blocks[:used]
            if index >= self.layout.singles:
                first_rows.append(first_rows[-1] + end - start)
        spare = self.layout.rows - len(tokens)
        for values, filler in zip(numbers, (0, -1, 0, -1, -1), strict=True):
            values += [filler] * spare
        lengths += [0] * (self.layout.sequences - len(pieces))
        starts += [0] * (self.layout.sequences - len(pieces))
        self._wide.numpy()[: ROW_FIELDS * self.layout.rows] = [x for values in numbers for x in values]
        self._narrow.numpy()[: 2 * len(lengths) + len(first_rows)] = lengths + starts + first_rows
        self._fill_samples(samples)

    def _fill_samples(self, samples: Sequence[Sampled]) -> None:
        whole, fractions = self.samples[:4].numpy(), self.samples[4:].numpy().view("float64")
        whole[0] = range(self.layout.samples)  # whoever has no row takes its own
        for index, (row, place, params, seed) in enumerate(samples):
            whole[:, index] = row, place, seed - (seed >> 63 << 64), params.top_k
            fractions[:, index] = params.temperature, params.top_p, params.min_p
