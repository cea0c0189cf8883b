import math

import pytest
import torch
from torch import Tensor

from byollm.kernels import causal_attention


def plain(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """One query at a time, by the definition."""
    out = torch.empty_like(q)
    group = q.shape[-2] // k.shape[-2]
    for at in range(q.shape[-3]):
        start = 0 if window is None else max(0, at - window + 1)
        for head in range(q.shape[-2]):
            keys = k[..., start : at + 1, head // group, :]
            scores = (keys @ q[..., at, head, :, None])[..., 0] / math.sqrt(q.shape[-1])
            weights = scores.softmax(-1)[..., None]
            out[..., at, head, :] = (weights * v[..., start : at + 1, head // group, :]).sum(-2)
    return out


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("window", [None, 1, 3, 11, 50])
@pytest.mark.parametrize("leading", [(), (2,)])
def test_it_is_attention_to_the_past(heads: tuple[int, int], window: int | None, leading: tuple[int]) -> None:
    q = torch.randn(*leading, 11, heads[0], 8)
    k, v = torch.randn(*leading, 11, heads[1], 8), torch.randn(*leading, 11, heads[1], 8)
    torch.testing.assert_close(
        causal_attention(q, k, v, window), plain(q, k, v, window), atol=1e-5, rtol=1e-5
    )


def test_the_future_does_not_matter() -> None:
    q, k, v = (torch.randn(1, 9, 2, 4) for _ in range(3))
    before = causal_attention(q, k, v)
    k[:, 5:], v[:, 5:] = 100.0, -100.0
    torch.testing.assert_close(causal_attention(q, k, v)[:, :5], before[:, :5])
