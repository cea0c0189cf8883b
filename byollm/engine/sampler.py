"""Chooses the next token of each sequence from its logits."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.engine import native_sampler
from byollm.engine.grammar_state import apply_masks
from byollm.engine.outputs import TokenLogprobs
from byollm.engine.request import Request
from byollm.engine.sampling_params import SamplingParams
from byollm.engine.uniform import uniforms
from byollm.kernels.cpu import load_library

CANDIDATES = (64, 1024)  # how many of the best tokens are sorted before the whole vocabulary is
LOWEST_TEMPERATURE = 1e-6  # below it the draw cannot be told from greedy, and float32 would divide by zero


class Sample(NamedTuple):
    """A chosen token, with log-probabilities if they were asked for."""

    token_id: int
    logprobs: TokenLogprobs | None


def sample(logits: Tensor, requests: Sequence[Request]) -> list[Sample | None]:
    """Choose one token for each request; None where its logits are not finite, or its grammar has failed.

    Args:
        logits: (requests, vocab) float32; changed in place.
        requests: the sequences, at the point where their next token is wanted.
    """
    if all(request.plain for request in requests):
        tokens = choose(logits, requests, [len(request.tokens) for request in requests])
        return [Sample(token, None) if token >= 0 else None for token in tokens]
    return _sample_adjusted(logits, requests)


def sample_ahead(logits: Tensor, request: Request) -> Iterator[Sample | None]:
    """Choose the token after each token of a draft, as `sample` does when all before it are known.

    Args:
        logits: (drafted, vocab) float32; changed in place.
        request: the sequence; it has to be given each guess that came true before the next choice is taken.
    """
    if request.plain:  # then nothing but the place is new with each token
        known = len(request.tokens)
        for token in choose(logits, [request] * len(logits), range(known, known + len(logits))):
            yield Sample(token, None) if token >= 0 else None
    else:
        for row in range(len(logits)):
            yield sample(logits[row : row + 1], [request])[0]


@torch.inference_mode()
def _sample_adjusted(logits: Tensor, requests: Sequence[Request]) -> list[Sample | None]:
    finite = logits.amax(-1).isfinite().tolist()  # not a number if any is not
    if not all(finite):
        logits[torch.tensor([not ok for ok in finite], device=logits.device)] = 0
    reported = [row for row, request in enumerate(requests) if request.params.logprobs is not None]
    raw = logits[reported].log_softmax(-1) if reported else None
    for row, request in enumerate(requests):
        if request.params.adjusted:
            _adjust(logits[row], request)
    if any(request.grammar is not None for request in requests):
        apply_masks(logits, [request.grammar for request in requests])
        finite = [ok and not _failed(request) for ok, request in zip(finite, requests, strict=True)]
    tokens = choose(logits, requests, [len(request.tokens) for request in requests])
    logprobs: list[TokenLogprobs | None] = [None] * len(requests)
    if raw is not None:
        chosen = [max(0, tokens[row]) for row in reported]
        wanted = [requests[row].params.logprobs or 0 for row in reported]
        for row, entry in zip(reported, report_logprobs(raw, chosen, wanted), strict=True):
            logprobs[row] = entry
    return [
        Sample(token, entry) if ok and token >= 0 else None
        for token, entry, ok in zip(tokens, logprobs, finite, strict=True)
    ]


def _failed(request: Request) -> bool:
    return request.grammar is not None and request.grammar.failure is not None


def _adjust(row: Tensor, request: Request) -> None:
    """Apply bias and penalties to one row (vocab,), in place."""
    params = request.params
    if request.completion_tokens < params.min_tokens:
        row[list(request.endings)] = float("-inf")
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias), device=row.device)
        row[ids] += torch.tensor(list(params.logit_bias.values()), dtype=row.dtype, device=row.device)
    if params.repetition_penalty != 1:
        ids = torch.tensor(list(set(request.tokens)), device=row.device)
        scores = row[ids]
        penalty = params.repetition_penalty
        row[ids] = torch.where(scores > 0, scores / penalty, scores * penalty)
    if request.counts and (params.presence_penalty or params.frequency_penalty):
        ids = torch.tensor(list(request.counts), device=row.device)
        counts = torch.tensor(list(request.counts.values()), dtype=row.dtype, device=row.device)
        row[ids] -= params.presence_penalty + params.frequency_penalty * counts


def choose(logits: Tensor, requests: Sequence[Request], positions: Sequence[int]) -> list[int]:
    """Return the token of each row of logits (rows, vocab), -1 where they are not numbers.

    Args:
        logits: float32, contiguous.
        requests: the sequence of each row.
        positions: where in its sequence the token is to stand.
    """
    library = load_library() if logits.is_cpu else None
    if library is None:
        return choose_with_torch(logits, requests, positions)
    return native_sampler.choose(library, logits, requests, positions)


@torch.inference_mode()
def choose_with_torch(logits: Tensor, requests: Sequence[Request], positions: Sequence[int]) -> list[int]:
    """Do the same on any device; this defines what is chosen."""
    finite = logits.amax(-1).isfinite()
    fine: list[bool] = finite.tolist()
    if not all(fine):  # what is drawn from those rows is dropped, but an index out of it has to be one
        logits = logits.where(finite[:, None], 0)
    kinds: dict[str, list[int]] = {"greedy": [], "whole": [], "filtered": []}
    for row, request in enumerate(requests):
        kind = "greedy" if request.params.greedy else "filtered" if request.params.filtered else "whole"
        kinds[kind].append(row)
    tokens = [0] * len(requests)
    for kind, rows in kinds.items():
        if not rows:
            continue
        part = logits if len(rows) == len(requests) else logits[rows]
        params = [requests[row].params for row in rows]
        if kind == "greedy":
            chosen = part.argmax(-1)
        else:
            pairs = [uniforms(requests[row].seed, positions[row]) for row in rows]
            numbers = torch.tensor(pairs, dtype=torch.float64, device=part.device)
            weights = to_weights(part, params)
            if kind == "filtered":
                chosen = draw_filtered(weights, params, numbers[:, :1])
            else:
                chosen = draw_whole(weights, numbers)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            tokens[row] = token
    return [token if ok else -1 for token, ok in zip(tokens, fine, strict=True)]


def to_weights(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Return probabilities up to a factor, (rows, vocab) float32; the largest of each row is 1."""
    temperatures = [[max(p.temperature, LOWEST_TEMPERATURE)] for p in params]
    scale = torch.tensor(temperatures, dtype=logits.dtype, device=logits.device)
    return ((logits - logits.amax(-1, keepdim=True)) / scale).exp_()


def draw_whole(weights: Tensor, numbers: Tensor) -> Tensor:
    """Draw one token a row, (rows,), from the whole vocabulary: a block of it first, then a token of that.

    One draw over all tokens would do, but at each border between two tokens rounding can change the outcome,
    and a batch rounds otherwise than a row alone. Two draws have some 2 * sqrt(vocab) borders.

    Args:
        weights: (rows, vocab), from `to_weights`.
        numbers: (rows, 2) float64 in [0, 1), for the block and for the token.
    """
    rows, vocab = weights.shape
    size = block_size(vocab)
    blocks = F.pad(weights, (0, -vocab % size)).view(rows, -1, size)
    block = _invert(blocks.sum(-1).cumsum(-1, dtype=torch.float64), numbers[:, :1])
    inside = blocks[torch.arange(rows, device=weights.device), block[:, 0]]
    token = _invert(inside.cumsum(-1, dtype=torch.float64), numbers[:, 1:])
    return (block * size + token)[:, 0]


def block_size(vocab: int) -> int:
    """Return the power of two next to the square root of `vocab`."""
    return 1 << ((vocab - 1).bit_length() // 2)


def _invert(cumulative: Tensor, numbers: Tensor, count: Tensor | None = None) -> Tensor:
    """Return each row's first index at which the share numbers (rows, 1) of the total is exceeded, (rows, 1).

    The total is the last of `cumulative`, or that of the first `count` (rows, 1).
    """
    total = cumulative[:, -1:] if count is None else cumulative.gather(1, count - 1)
    # Rounding might carry the product up to the total, past every index that has weight.
    target = torch.minimum(numbers * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True)


def draw_filtered(weights: Tensor, params: Sequence[SamplingParams], numbers: Tensor) -> Tensor:
    """Draw one token a row, (rows,), among those that top_k, top_p and min_p keep.

    Kept tokens are the first few in order of weight, then id. Usually a short list of the best holds them
    all, and sorting the vocabulary is spared; where it may not, or where a tie runs past its end, a longer
    list is taken.

    Args:
        weights: (rows, vocab), from `to_weights`.
        params: of each row.
        numbers: (rows, 1) float64 in [0, 1).
    """
    rows, vocab = weights.shape
    device = weights.device
    top_k = torch.tensor([[p.top_k if 0 < p.top_k < vocab else vocab] for p in params], device=device)
    top_p = torch.tensor([[p.top_p if p.top_p < 1 else float("inf")] for p in params], device=device).double()
    min_p = torch.tensor([[p.min_p] for p in params], device=device)
    mass = weights.sum(-1, keepdim=True, dtype=torch.float64)
    tokens = torch.zeros(rows, dtype=torch.long, device=device)
    pending = torch.arange(rows, device=device)
    for size in (*(size for size in CANDIDATES if size < vocab), vocab):
        values, ids = _best(weights[pending], size)  # (pending, size)
        wide = values.double()
        cumulative = wide.cumsum(-1)
        k = top_k[pending]
        within = torch.where(k < vocab, cumulative.gather(1, k.clamp(max=size) - 1), mass[pending])
        kept = torch.arange(size, device=device) < k
        kept &= (cumulative - wide) < top_p[pending] * within
        kept &= values >= min_p[pending]
        count = kept.sum(-1, keepdim=True).clamp(min=1)
        index = _invert(cumulative, numbers[pending], count)
        sure = values[:, -1:] < values.gather(1, count - 1)
        sure &= (k == vocab) | (k < size)
        sure = sure[:, 0] | (size == vocab)
        tokens[pending[sure]] = ids.gather(1, index)[:, 0][sure]
        pending = pending[~sure]
        if len(pending) == 0:
            break
    return tokens


def _best(weights: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the `size` largest weights of each row, descending, and their ids, ascending among equals."""
    if size == weights.shape[-1]:
        values, ids = weights.sort(dim=-1, descending=True, stable=True)
        return values, ids
    ids = weights.topk(size, dim=-1, sorted=False).indices.sort(dim=-1).values
    values, order = weights.gather(1, ids).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, order)


def report_logprobs(logprobs: Tensor, chosen: list[int], wanted: list[int]) -> list[TokenLogprobs]:
    """Report the chosen token and the `wanted` best of each row of (rows, vocab)."""
    index = torch.tensor(chosen, device=logprobs.device)[:, None]
    own = logprobs.gather(1, index)[:, 0].tolist()
    most = min(max(wanted), logprobs.shape[-1])
    values, ids = (part.tolist() for part in logprobs.topk(most, dim=-1))
    return [
        TokenLogprobs(token, value, list(zip(ids[row], values[row], strict=True))[:count])
        for row, (token, value, count) in enumerate(zip(chosen, own, wanted, strict=True))
    ]
