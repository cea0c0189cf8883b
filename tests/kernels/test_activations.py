import math

import torch

from byollm.kernels import gelu, swiglu


def test_swiglu_is_its_formula() -> None:
    gate, up = torch.randn(3, 5, 17), torch.randn(3, 5, 17)
    torch.testing.assert_close(swiglu(gate, up), gate * torch.sigmoid(gate) * up)


def test_gelu_is_the_tanh_approximation() -> None:
    x = torch.linspace(-6, 6, 101)
    expected = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    torch.testing.assert_close(gelu(x), expected, atol=1e-6, rtol=1e-5)
