"""GPTQ: columns are rounded in turn, and those to come make up for the error (Frantar et al., 2022)."""

import torch
from torch import Tensor

DAMPING = 0.01
"""Of the mean of the Hessian's diagonal, added to it: what calibration never saw counts a little."""
BLOCK = 128
"""Columns whose errors are carried into the rest of the weight in one product."""


def gptq(weight: Tensor, scales: Tensor, lowest: int, highest: int, hessian: Tensor) -> Tensor:
    """Return integers (out, in), as floats, that make the error of weight @ x small.

    The columns that carry most go first, while there are others to make up for them ("act-order"); the scales
    are those of the columns as they were, so that groups stay where they are.

    Args:
        weight: (out, in) float32
        scales: (out, in) float32, the scale of each weight
        lowest: integer
        highest: integer
        hessian: (in, in) float32, sum of x x^T
    """
    order = hessian.diagonal().argsort(descending=True)
    weight, scales = weight[:, order].clone(), scales[:, order]
    carry = _carry(hessian[order][:, order])
    integers = torch.empty_like(weight)
    for start in range(0, weight.shape[1], BLOCK):
        end = min(start + BLOCK, weight.shape[1])
        block, inner = weight[:, start:end].clone(), carry[start:end, start:end]
        errors = torch.empty_like(block)
        for i in range(end - start):
            scale = scales[:, start + i]
            rounded = (block[:, i] / scale).round_().clamp_(lowest, highest)
            integers[:, start + i] = rounded
            errors[:, i] = (block[:, i] - rounded * scale) / inner[i, i]
            block[:, i + 1 :].addr_(errors[:, i], inner[i, i + 1 :], alpha=-1)
        weight[:, end:].addmm_(errors, carry[start:end, end:], alpha=-1)
    return integers[:, order.argsort()]


def _carry(hessian: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of the damped Hessian."""
    diagonal = hessian.diagonal()
    damping = DAMPING * diagonal.mean()
    damped = hessian + torch.diag(damping.expand_as(diagonal).clamp(min=torch.finfo(hessian.dtype).tiny))
    carry: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    return carry
