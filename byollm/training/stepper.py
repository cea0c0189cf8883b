"""One training step: gradients from a batch, clipping, and the optimisers."""

import math

import torch

from byollm.modeling import Attend, Decoder
from byollm.settings.training import Recipe
from byollm.training.attention import blocked_attention
from byollm.training.errors import DivergenceError, TrainingError
from byollm.training.hardware import Hardware
from byollm.training.loss import IGNORED, cross_entropy_sum
from byollm.training.optimizers import Optimizers, rate
from byollm.training.rows import Rows


class Stepper:
    """Takes steps with a model over rows; step N does the same whenever it is taken from the same state."""

    def __init__(
        self, model: Decoder, rows: Rows, recipe: Recipe, hardware: Hardware, compiled: bool
    ) -> None:
        self.model, self._rows, self._recipe, self._hardware = model, rows, recipe, hardware
        self.optimizers = Optimizers(model, recipe)
        plain = hardware.device.type == "cpu" and hardware.dtype == torch.float32
        windowed = model.config.sliding_window is not None
        self._attend: Attend | None = blocked_attention if plain and not windowed else None
        self._hidden = torch.compile(model, dynamic=False) if compiled else model
        self._positions = torch.arange(recipe.sequence_length, device=hardware.device)
        self.tokens = recipe.batch_size * recipe.accumulation * recipe.sequence_length
        """Tokens of a step."""

    def take(self, step: int, total: int) -> tuple[float, float, float]:
        """Take step `step` of `total`; return loss, gradient norm and the share of the peak rates.

        Raises:
            DivergenceError: the loss or the gradient is not finite; the weights are as they were.
            TrainingError: the data has tokens that the model does not know.
        """
        recipe = self._recipe
        batches = [
            self._rows.batch(
                step * recipe.accumulation + part, recipe.batch_size, recipe.sequence_length, recipe.seed
            )
            for part in range(recipe.accumulation)
        ]
        known = self.model.config.vocab_size
        if (largest := max(int(inputs.max()) for inputs, _ in batches)) >= known:
            raise TrainingError(
                f"the data holds token {largest}, but the model's vocabulary ends at {known - 1}. The token "
                "shards and the tokenizer beside them do not belong together: prepare the data anew."
            )
        counted = sum(int((targets != IGNORED).sum()) for _, targets in batches)
        loss = torch.zeros((), device=self._hardware.device)
        for inputs, targets in batches:
            inputs, targets = inputs.to(self._hardware.device), targets.to(self._hardware.device)
            with self._hardware.autocast():
                hidden = self._hidden(inputs, self._positions, self._attend)
            part_loss = cross_entropy_sum(
                hidden.flatten(0, 1), self.model.head_weight, targets.flatten(), self._hardware.dtype
            )
            part_loss = part_loss / counted
            part_loss.backward()  # type: ignore[no-untyped-call]
            loss += part_loss.detach()
        norm = self.optimizers.clip()
        if not math.isfinite(loss.item()) or not math.isfinite(norm):
            raise DivergenceError(
                f"step {step + 1}: the loss is {loss.item()} and the gradient's norm {norm}. The last "
                "checkpoint is from before this and is kept. Start a new run (another --out) with lower "
                f"learning rates (matrix_learning_rate is {recipe.matrix_learning_rate}, learning_rate "
                f"{recipe.learning_rate}) or a longer warm-up."
            )
        share = rate(step, total, recipe.warmup_fraction, recipe.decay_fraction)
        self.optimizers.step(share)
        return loss.item(), norm, share
