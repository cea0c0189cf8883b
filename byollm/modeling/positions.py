"""How a decoder knows the order of its tokens: tables of rotary angles."""

import math

import torch
from torch import Tensor, nn

from byollm.modeling.config import DecoderConfig
from byollm.modeling.rope_scaling import RopeScaling


class RotaryTable(nn.Module):
    """cos and sin of every position's rotary angles, computed once.

    The tables are no part of a checkpoint. Moving the decoder to a narrower type narrows them as well, which
    is what transformers does with angles that it computes in float32.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("cos", torch.empty(0), persistent=False)
        self.register_buffer("sin", torch.empty(0), persistent=False)
        if self.cos.device.type != "meta":  # who builds there fills it afterwards
            self.fill()

    def fill(self, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> None:
        """Compute the tables (max_positions, rotary_dim / 2)."""
        angles = torch.outer(
            torch.arange(self.config.max_positions, dtype=torch.float32, device=device),
            rotary_frequencies(self.config, device),
        )
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin (..., rotary_dim / 2) at `positions` (...)."""
        return self.cos[positions], self.sin[positions]


def rotary_frequencies(config: DecoderConfig, device: torch.device | str | None = None) -> Tensor:
    """Return the radians that each pair of channels turns per position: (rotary_dim / 2,) float32."""
    exponents = torch.arange(0, config.rotary_dim, 2, dtype=torch.float32, device=device) / config.rotary_dim
    frequencies = 1.0 / config.rope_theta**exponents
    return frequencies if config.rope_scaling is None else _scaled(frequencies, config.rope_scaling)


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    slow = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slow
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_max_positions / wavelengths  # in the length of the first training
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * slow + blend * frequencies
