"""Runs the chunks of one step on a GPU: fused kernels, and CUDA graphs for steps that only decode."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from byollm.engine.adapters import BASE
from byollm.engine.cuda_graph import Capture, CudaGraphs
from byollm.engine.fused_decoder import FusedDecoder
from byollm.engine.gpu_adapters import GpuAdapters
from byollm.engine.gpu_batch import Batch, Layout, Sampled
from byollm.engine.kv_cache import BLOCK_SIZE, KVCache
from byollm.engine.pieces import Piece
from byollm.engine.request import UNREAD, Request
from byollm.engine.sampling_params import SamplingParams
from byollm.engine.scheduler import Chunk
from byollm.kernels.gpu.sample import sample
from byollm.kernels.gpu.tuning import read_table, table_path, use
from byollm.modeling import Adapter, Decoder
from byollm.settings.engine import EngineSettings

BUCKETS = (1, 2, 4, *range(8, 65, 8), *range(96, 257, 32), 384, 512)
"""Numbers of rows for which a step is captured; where more are decoded, it is launched kernel by kernel."""

GREEDY = SamplingParams(temperature=0)


class Launched:
    """The tokens of a step that was launched, on their way from the device.

    Args:
        tokens: on the device, in the order of the batch.
        places: where each of them stands in the order of the chunks.
    """

    def __init__(self, tokens: Tensor, places: Sequence[int]) -> None:
        self._places = places
        self._tokens = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=tokens.is_cuda)
        self._tokens.copy_(tokens, non_blocking=True)
        self._copied = torch.cuda.Event() if tokens.is_cuda else None  # type: ignore[no-untyped-call]
        if self._copied is not None:
            self._copied.record()

    def collect(self) -> list[int]:
        """Wait for the tokens; one for each chunk that wants one, -1 where its logits are not numbers."""
        if self._copied is not None:
            self._copied.synchronize()
        tokens = [0] * len(self._places)
        for place, token in zip(self._places, self._tokens.tolist(), strict=True):
            tokens[place] = token
        return tokens


class _Step(NamedTuple):
    """A step that only decodes, ready to be run again and again.

    Attributes:
        batch: where it reads its numbers.
        replay: computes it; returns logits (sequences, vocab), and has then chosen the tokens.
    """

    batch: Batch
    replay: Callable[[], Tensor]


class GpuRunner:
    """One forward pass a step, like `ModelRunner`; the tokens chosen last stay on the device.

    Steps that only decode, drafts among them, are computed as captured, from head to sampler, with the rows
    filled up to one of `BUCKETS`; all others kernel by kernel.

    Args:
        decoder: the model, on its device.
        num_blocks: size of the cache.
        max_running: most sequences of a step.
        context: most tokens of a sequence.
        adapter_slots: most adapters of a step.
        capture: makes work repeatable.
    """

    def __init__(
        self,
        decoder: Decoder,
        num_blocks: int,
        max_running: int,
        context: int,
        adapter_slots: int,
        capture: Capture,
    ) -> None:
        self.config = decoder.config
        self.dtype, self.device = decoder.dtype, decoder.device
        self.cache = self.new_cache(num_blocks)
        self._decoder = FusedDecoder(decoder.eval())
        self._width = -(-context // BLOCK_SIZE)
        self._most = max_running
        self._capture = capture
        self._steps: dict[tuple[int, bool], _Step] = {}  # by rows, and whether some have adapters
        groups = [group for layer in self._decoder.layers for group in layer.groups]
        self._adapters = GpuAdapters(groups, adapter_slots, self.dtype, self.device)
        room = next((size for size in BUCKETS if size >= max_running), max_running)
        self._chosen = torch.zeros(room, dtype=torch.int64, device=self.device)
        self._owners: dict[Request, int] = {}  # where each sequence's token stands in `_chosen`

    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute the chunks into the cache; return float32 logits (rows of all chunks, vocab), in order.

        They may be overwritten by the next run.
        """
        order = _order([chunk.end - chunk.start for chunk in chunks])
        rows = [0, *accumulate(chunk.rows for chunk in chunks)]
        places = [place for i in order for place in range(rows[i], rows[i + 1])]
        samples = [
            Sampled(end - chunks[i].rows + row, 0, GREEDY, 0)
            for i, end in zip(order, accumulate(chunks[i].end - chunks[i].start for i in order), strict=True)
            for row in range(chunks[i].rows)
        ]
        logits = self._compute([chunks[i] for i in order], samples, choose=False)
        return logits if places == list(range(len(places))) else logits[self._index(_inverse(places))]

    def submit(self, chunks: Sequence[Chunk]) -> Launched:
        """Launch a step and the choice of its tokens, without waiting for either.

        All sequences whose logits are wanted have to be plain. Tokens that are not read yet (UNREAD) are
        taken from the step submitted before.
        """
        order = _order([chunk.end - chunk.start for chunk in chunks])
        wanted = [0, *accumulate(chunk.rows for chunk in chunks)]
        samples: list[Sampled] = []
        places: list[int] = []
        owners: dict[Request, int] = {}
        end = 0
        for i in order:
            request = chunks[i].request
            end += chunks[i].end - chunks[i].start
            if chunks[i].rows:
                owners[request] = len(samples)
                places.append(wanted[i])
                samples.append(Sampled(end - 1, chunks[i].end, request.params, request.seed))
        self._compute([chunks[i] for i in order], samples, choose=True)
        self._owners = owners
        return Launched(self._chosen[: len(samples)], places)

    @torch.inference_mode()
    def set_adapter(self, slot: int, adapter: Adapter | None) -> None:
        """Put an adapter into a slot, in the place of what stands there; None empties it."""
        if self._adapters.put(slot, adapter):
            self._steps = {key: step for key, step in self._steps.items() if not key[1]}

    def new_cache(self, num_blocks: int) -> KVCache:
        """Return a cache beside the runner's own, for texts that are only read."""
        return KVCache(self.config, num_blocks, self.dtype, self.device)

    @torch.inference_mode()
    def read_hidden(self, pieces: Sequence[Piece], cache: KVCache) -> Tensor:
        """Compute texts into a cache; return float32 final hidden states, (tokens of all pieces, hidden)."""
        return self._read(pieces, cache).float()

    @torch.inference_mode()
    def read_logits(self, pieces: Sequence[Piece], cache: KVCache) -> Tensor:
        """Compute texts into a cache; return float32 logits, (tokens of all pieces, vocab)."""
        return self._decoder.logits(self._read(pieces, cache))

    def _read(self, pieces: Sequence[Piece], cache: KVCache) -> Tensor:
        order = _order([len(piece.tokens) for piece in pieces])
        batch = self._send([pieces[i] for i in order], [-1] * len(pieces), [])
        hidden = self._forward(batch, cache, _adapted(pieces))
        starts = [0, *accumulate(len(piece.tokens) for piece in pieces)]
        places = [place for i in order for place in range(starts[i], starts[i + 1])]
        return hidden[self._index(_inverse(places))]

    @torch.inference_mode()
    def _compute(self, chunks: Sequence[Chunk], samples: Sequence[Sampled], choose: bool) -> Tensor:
        """Compute chunks, those of one row first; return their logits (samples, vocab)."""
        pieces = [Piece(chunk.tokens, chunk.start, chunk.request.blocks, chunk.slot) for chunk in chunks]
        sources = [self._owners[c.request] if c.tokens[-1] == UNREAD else -1 for c in chunks]
        rows = sum(chunk.rows for chunk in chunks)
        bucket = next((size for size in BUCKETS if rows <= size <= len(self._chosen)), None)
        if bucket is not None and all(chunk.rows == chunk.end - chunk.start for chunk in chunks):
            key = bucket, _adapted(pieces)
            step = self._steps.get(key) or self._prepare(*key)
            step.batch.copy_(self._fill(step.batch.layout, *_singles(pieces, sources), samples))
            return step.replay()[:rows]
        batch = self._send(pieces, sources, samples)
        hidden = self._forward(batch, self.cache, _adapted(pieces))
        if choose and samples:
            return self._choose(batch, hidden)
        return self._decoder.logits(hidden[batch.samples[0]])

    @torch.inference_mode()
    def prepare(self, most_tokens: int, most_rank: int) -> None:
        """Compile what steps need now, rather than amid a request, and capture those without adapters.

        Args:
            most_tokens: of a step.
            most_rank: of an adapter; 0: there are none.
        """
        for power in range((most_tokens - 1).bit_length() + 1):  # kernels are configured by powers of two
            batch = self._idle(Layout(1 << power, 1, 0, 1, self._width))
            self._choose(batch, self._forward(batch, self.cache, adapted=False))
            if most_rank:
                self._adapters.compile(1 << power, most_rank)
        needed = [size for below, size in pairwise((0, *BUCKETS)) if below < self._most]
        for bucket in reversed(needed):  # the largest first: the others then fit into its memory
            self._prepare(bucket, adapted=False)

    def _prepare(self, bucket: int, adapted: bool) -> _Step:
        batch = self._idle(Layout(bucket, bucket, bucket, bucket, self._width))

        def work() -> Tensor:
            return self._choose(batch, self._forward(batch, self.cache, adapted))

        kept = self._chosen.clone()  # the capture does the work, and a step may wait to be fed from these
        step = self._steps[bucket, adapted] = _Step(batch, self._capture(work))
        self._chosen.copy_(kept)
        return step

    def _idle(self, layout: Layout) -> Batch:
        """Return a batch whose rows are nobody's and write nothing."""
        batch = Batch(layout, self.device)
        batch.copy_(self._fill(layout, [], [], []))
        return batch

    def _forward(self, batch: Batch, cache: KVCache, adapted: bool) -> Tensor:
        last = self._chosen[batch.sources.clamp(min=0)].clamp(min=0)  # below 0: it is about to fail
        tokens = torch.where(batch.sources < 0, batch.tokens, last)
        return self._decoder.hidden(tokens, batch, cache, self._adapters if adapted else None)

    def _choose(self, batch: Batch, hidden: Tensor) -> Tensor:
        """Choose the next tokens; return the logits."""
        rows, places, seeds, top_k = batch.samples[:4]
        temperature, top_p, min_p = batch.samples[4:].view(torch.float64)
        logits = self._decoder.logits(hidden[rows])
        tokens = sample(logits, temperature, top_k, top_p, min_p, seeds, places)
        self._chosen[: len(tokens)] = tokens
        return logits

    def _send(self, pieces: Sequence[Piece], sources: Sequence[int], samples: Sequence[Sampled]) -> Batch:
        rows = sum(len(piece.tokens) for piece in pieces)
        singles = sum(len(piece.tokens) == 1 for piece in pieces)
        layout = Layout(rows, len(pieces), singles, len(samples), self._width)
        batch = Batch(layout, self.device)
        batch.copy_(self._fill(layout, pieces, sources, samples))
        return batch

    def _fill(
        self, layout: Layout, pieces: Sequence[Piece], sources: Sequence[int], samples: Sequence[Sampled]
    ) -> Batch:
        host = Batch(layout, "cpu", pinned=self.device.type == "cuda")
        host.fill(pieces, sources, samples)
        return host

    def _index(self, rows: list[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self.device)


def make_gpu_runner(decoder: Decoder, num_blocks: int, settings: EngineSettings) -> GpuRunner:
    """Return the runner of a decoder on a GPU, its kernels as `byollm tune` left them, its steps captured.

    Raises:
        TuningError: the table of the kernels cannot be read.
    """
    gpu = torch.cuda.get_device_name(decoder.device)
    table = settings.kernel_table or table_path(gpu)
    if settings.kernel_table is not None or table.exists():
        use(read_table(table, gpu))
    positions = decoder.config.max_positions
    context = min(settings.max_context or positions, positions)
    runner = GpuRunner(
        decoder, num_blocks, settings.max_running, context, settings.adapter_slots, CudaGraphs()
    )
    runner.prepare(settings.max_batch_tokens, settings.max_adapter_rank if settings.adapter_slots else 0)
    return runner


def _order(lengths: Sequence[int]) -> list[int]:
    """The order of a batch: what has one row first."""
    return sorted(range(len(lengths)), key=lambda i: lengths[i] > 1)


def _singles(pieces: Sequence[Piece], sources: Sequence[int]) -> tuple[list[Piece], list[int]]:
    """Return drafts row by row, as sequences with the same blocks: each row sees only those before it."""
    rows, origins = [], []
    for (tokens, start, blocks, slot), source in zip(pieces, sources, strict=True):
        rows += [Piece([token], start + index, blocks, slot) for index, token in enumerate(tokens)]
        origins += [-1] * (len(tokens) - 1) + [source]
    return rows, origins


def _adapted(pieces: Sequence[Piece]) -> bool:
    return any(piece.slot != BASE for piece in pieces)


def _inverse(places: Sequence[int]) -> list[int]:
    """For each place, what stands there."""
    inverse = [0] * len(places)
    for index, place in enumerate(places):
        inverse[place] = index
    return inverse
