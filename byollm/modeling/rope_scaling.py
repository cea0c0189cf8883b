"""How a checkpoint stretches rotary positions beyond the length it was first trained for."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RopeScaling:
    """Divide rotary frequencies by `factor`: all of them, or the slow ones only.

    `linear` divides all of them (Chen et al., 2023). `llama3` leaves wavelengths shorter than
    original_max_positions / high_freq_factor alone, divides those longer than
    original_max_positions / low_freq_factor, and blends between (Llama 3.1).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192
