"""Muon: momentum whose update is orthogonalised, for the matrices inside the layers.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024),
https://kellerjordan.github.io/posts/muon/. The arithmetic is that of `torch.optim.Muon`; what differs is the
cost. Matrices of one shape are orthogonalised together; the iteration runs on the small Gram matrix instead
of the whole update, and in float32 on a CPU, where bfloat16 products may be a hundred times slower.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# x -> a x + b x^3 + c x^5 drives every singular value in (0, 1] to about 0.7..1.2 in five rounds
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
SMALLEST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """The optimiser of 2-D weights (out, in).

    A step is `weight -= lr * weight_decay * weight + lr * sqrt(max(1, out / in)) * orthogonalise(update)`,
    where `update` is Nesterov momentum.

    Args:
        matrices: the weights; all of them need a gradient at each step
        lr: learning rate
        weight_decay: decoupled from the gradient
        momentum: of the running mean of gradients
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        by_shape = defaultdict[torch.Size, list[nn.Parameter]](list)
        for matrix in matrices:
            if matrix.ndim != 2:
                raise ValueError(f"Muon trains matrices, this parameter has shape {tuple(matrix.shape)}")
            by_shape[matrix.shape].append(matrix)
        groups: list[dict[str, Any]] = [{"params": same} for same in by_shape.values()]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix from its gradient."""
        assert closure is None, "a step is computed from the gradients that are there"
        for group in self.param_groups:
            matrices: list[Tensor] = group["params"]
            gradients = torch.stack([matrix.grad for matrix in matrices if matrix.grad is not None])
            state = self.state[matrices[0]]  # one tensor for all matrices of the shape
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradients)
            mean = state["momentum"].lerp_(gradients, 1 - group["momentum"])
            dtype = torch.bfloat16 if gradients.is_cuda else torch.float32
            update = orthogonalise(gradients.lerp_(mean, group["momentum"]), dtype)
            rows, columns = matrices[0].shape
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            scale = group["lr"] * math.sqrt(max(1.0, rows / columns))
            torch._foreach_add_(matrices, list(update.unbind()), alpha=-scale)


def orthogonalise(updates: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return for each matrix of (n, rows, columns) one with the same singular vectors and values near 1.

    Newton-Schulz: X <- a X + b (X X^T) X + c (X X^T)^2 X. Each round multiplies X from the left by a
    polynomial P of G = X X^T. These all commute, so G <- P G P needs small square products only, and the
    product of all P is applied once at the end. In bfloat16, G would lose the small singular values: there
    the iteration runs on X itself.
    """
    a, b, c = COEFFICIENTS
    x = updates.to(dtype)
    wide = x.mT if x.shape[-2] > x.shape[-1] else x
    wide = wide / wide.flatten(1).norm(dim=1).clamp(min=SMALLEST_NORM)[:, None, None].to(wide.dtype)
    if dtype == torch.bfloat16:
        for _ in range(ROUNDS):
            gram = wide @ wide.mT
            wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    else:
        gram, product = wide @ wide.mT, None
        for round_ in range(ROUNDS):
            polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
            product = polynomial if product is None else polynomial @ product
            if round_ + 1 < ROUNDS:
                gram = polynomial @ gram @ polynomial
        assert product is not None
        wide = product @ wide
    return (wide.mT if x.shape[-2] > x.shape[-1] else wide).to(updates.dtype)
