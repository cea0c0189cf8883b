import pytest
import torch
from torch import Tensor

from byollm.kernels import apply_rotary


def angles(positions: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    turned = positions[..., None].double() * torch.linspace(1, 0.1, pairs, dtype=torch.float64)
    return turned.cos().float(), turned.sin().float()


@pytest.mark.parametrize(("head_dim", "pairs"), [(8, 4), (16, 2), (20, 5), (2, 1)])
def test_pairs_turn_as_complex_numbers_and_the_rest_passes(head_dim: int, pairs: int) -> None:
    x = torch.randn(2, 7, 3, head_dim)
    cos, sin = angles(torch.arange(7), pairs)
    turned = torch.complex(x[..., :pairs], x[..., pairs : 2 * pairs]) * torch.complex(cos, sin)[:, None]
    expected = torch.cat([turned.real, turned.imag, x[..., 2 * pairs :]], dim=-1)
    torch.testing.assert_close(apply_rotary(x, cos, sin), expected)


def test_scores_depend_on_distance_only() -> None:
    q, k = torch.randn(1, 1, 8), torch.randn(1, 1, 8)

    def score(at: int, of: int) -> Tensor:
        return (
            apply_rotary(q, *angles(torch.tensor([at]), 4)) * apply_rotary(k, *angles(torch.tensor([of]), 4))
        ).sum()

    torch.testing.assert_close(score(9, 4), score(105, 100), atol=1e-4, rtol=1e-4)
    assert not torch.isclose(score(9, 4), score(9, 5))


def test_the_result_has_the_dtype_of_the_input() -> None:
    cos, sin = angles(torch.arange(3), 2)
    assert apply_rotary(torch.randn(3, 1, 4).bfloat16(), cos, sin).dtype == torch.bfloat16
