"""Where the model runs and with which numbers."""

import torch

from byollm.engine.errors import EngineError
from byollm.settings.engine import EngineSettings


def choose_device(settings: EngineSettings) -> torch.device:
    """Return the device that the settings ask for.

    Raises:
        EngineError: CUDA is asked for and torch finds none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            "engine.device is cuda, but torch finds no CUDA device: use cpu or auto, or check the driver"
        )
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)


def choose_dtype(settings: EngineSettings, device: torch.device) -> torch.dtype:
    """Return the type of weights and cache: as asked, or bfloat16 where the device multiplies it natively."""
    if settings.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
    if device.type == "cuda":
        return torch.bfloat16
    can = torch.cpu.get_capabilities()
    return torch.bfloat16 if can.get("amx_bf16") or can.get("avx512_bf16") else torch.float32
