"""Which optimiser trains which parameter, and how fast at each step."""

import torch
from torch import nn

from byollm.settings.training import Recipe
from byollm.training.muon import Muon

ADAM_BETAS = (0.9, 0.95)
ADAM_EPSILON = 1e-10  # the gradients of rare tokens' embeddings are tiny


class Optimizers:
    """Muon for the matrices inside the layers, AdamW for embeddings, head, norms and biases."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        matrices, others = list[nn.Parameter](), list[nn.Parameter]()
        for name, parameter in model.named_parameters():
            inside = parameter.ndim == 2 and not name.startswith(("embed_", "lm_head"))
            (matrices if inside else others).append(parameter)
        self.parameters = [*matrices, *others]
        muon = Muon(matrices, recipe.matrix_learning_rate, recipe.weight_decay)
        adamw = torch.optim.AdamW(
            others, recipe.learning_rate, ADAM_BETAS, ADAM_EPSILON, weight_decay=0.0, fused=True
        )
        self._peaks: list[tuple[torch.optim.Optimizer, float]] = [
            (muon, recipe.matrix_learning_rate),
            (adamw, recipe.learning_rate),
        ]
        self._clip = recipe.gradient_clip

    def clip(self) -> float:
        """Shorten the gradient to the recipe's norm; return the norm it had."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self._clip)
        return norm.item()

    def step(self, rate: float) -> None:
        """Update the parameters, with `rate` times the peak learning rates, and forget the gradients."""
        for optimizer, peak in self._peaks:
            for group in optimizer.param_groups:
                group["lr"] = rate * peak
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a checkpoint has to hold, by name."""
        return {
            f"{type(optimizer).__name__}.{index}.{key}": tensor
            for optimizer, _ in self._peaks
            for index, entry in optimizer.state_dict()["state"].items()
            for key, tensor in entry.items()
        }

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take back what `state` returned."""
        for optimizer, _ in self._peaks:
            whole = optimizer.state_dict()
            whole["state"] = {}
            for name, tensor in tensors.items():
                kind, index, key = name.split(".")
                if kind == type(optimizer).__name__:
                    whole["state"].setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict(whole)


def rate(step: int, total: int, warmup_fraction: float, decay_fraction: float) -> float:
    """Return the share of the peak rates for `step` (0 .. total - 1): up, constant, down to nearly 0."""
    up = (step + 1) / max(1.0, warmup_fraction * total)
    down = (total - step) / max(1.0, decay_fraction * total)
    return min(1.0, up, down)
