import pytest
import torch

from byollm.kernels import causal_attention
from byollm.training import attention
from byollm.training.attention import blocked_attention


@pytest.mark.parametrize(
    ("batch", "time", "heads", "kv_heads", "head_dim"),
    [(2, 64, 4, 1, 16), (1, 1, 2, 2, 8), (2, 65, 4, 2, 8), (3, 200, 3, 3, 16), (1, 63, 6, 2, 4)],
)
def test_output_and_gradients_are_those_of_the_reference(
    batch: int, time: int, heads: int, kv_heads: int, head_dim: int
) -> None:
    torch.manual_seed(0)
    q = torch.randn(batch, time, heads, head_dim, requires_grad=True)
    k, v = (torch.randn(batch, time, kv_heads, head_dim, requires_grad=True) for _ in range(2))
    out, expected = blocked_attention(0, q, k, v), causal_attention(q, k, v)
    torch.testing.assert_close(out, expected)
    outer = torch.randn_like(out)
    torch.testing.assert_close(
        torch.autograd.grad(out, (q, k, v), outer),
        torch.autograd.grad(expected, (q, k, v), outer),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_operator_keeps_its_promises_to_torch() -> None:
    q, k, v = (torch.randn(shape, requires_grad=True) for shape in [(2, 3, 70, 8), (2, 70, 8), (2, 70, 8)])
    utils = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(attention._forward, (q, k, v), test_utils=utils)
