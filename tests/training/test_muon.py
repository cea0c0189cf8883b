import math

import pytest
import torch
from torch import nn

from byollm.training.muon import COEFFICIENTS, ROUNDS, Muon, orthogonalise

SHAPES = [(32, 32), (96, 32), (32, 96), (7, 3), (1, 16)]


def reference(matrix: torch.Tensor) -> torch.Tensor:
    """The iteration as it is written down, in float64."""
    x = matrix.double()
    x = x / x.norm()
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_become_nearly_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linspace(0.05, 1.0, min(shape))
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = left @ values.diag() @ right
    found = torch.linalg.svdvals(orthogonalise(matrix[None])[0])
    assert found.min() > 0.6
    assert found.max() < 1.25


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.mT @ orthogonalise(matrix[None])[0] @ right.mT
    torch.testing.assert_close(turned, turned.diagonal().diag(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-5])
def test_working_on_the_gram_matrix_changes_only_rounding(shape: tuple[int, int], smallest: float) -> None:
    torch.manual_seed(2)
    left, values, right = torch.linalg.svd(torch.randn(3, *shape), full_matrices=False)
    spread = torch.logspace(0, math.log10(smallest), values.shape[-1])
    matrices = left @ torch.diag_embed(spread.expand_as(values)) @ right
    expected = torch.stack([reference(matrix) for matrix in matrices]).float()
    torch.testing.assert_close(orthogonalise(matrices), expected, atol=2e-3, rtol=0)  # bfloat16: 4e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_narrow_products_change_only_rounding(shape: tuple[int, int]) -> None:
    torch.manual_seed(4)
    matrices = torch.randn(2, *shape)
    expected = torch.stack([reference(matrix) for matrix in matrices]).float()
    found = orthogonalise(matrices, torch.bfloat16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)


def test_a_gradient_of_zeros_gives_an_update_of_zeros() -> None:
    assert orthogonalise(torch.zeros(2, 8, 4)).abs().max() == 0


def test_steps_are_those_of_torch_muon() -> None:
    torch.manual_seed(3)
    first = [torch.randn(shape) for shape in [(24, 8), (8, 24), (24, 8), (16, 16)]]
    ours = [nn.Parameter(matrix.clone()) for matrix in first]
    theirs = [nn.Parameter(matrix.clone()) for matrix in first]
    optimizers = (
        Muon(ours, lr=0.05, weight_decay=0.2, momentum=0.9),
        torch.optim.Muon(theirs, lr=0.05, weight_decay=0.2, momentum=0.9),
    )
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, start in zip(ours, theirs, first, strict=True):
        moved = (other - start).norm()
        assert (mine - other).norm() < 0.02 * moved  # torch iterates in bfloat16


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)
