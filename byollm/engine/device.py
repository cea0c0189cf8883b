"""Where the model runs and with which numbers."""

import logging

import torch

from byollm.engine.errors import EngineError
from byollm.settings.engine import EngineSettings

logger = logging.getLogger(__name__)


def choose_device(settings: EngineSettings) -> torch.device:
    """Return the device that the settings ask for.

    Raises:
        EngineError: CUDA is asked for and torch finds none.
    """
    if settings.device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if settings.device == "cuda":
        raise EngineError(
            "engine.device is cuda, but torch finds no CUDA device: use cpu or auto, or check the driver"
        )
    if settings.device == "auto" and torch.version.cuda is not None:  # where a GPU should be, it is missed
        logger.warning(
            "computing on the processor: PyTorch is built for CUDA %s, but finds no GPU", torch.version.cuda
        )
    return torch.device("cpu")


def choose_dtype(settings: EngineSettings, device: torch.device) -> torch.dtype:
    """Return the type of weights and cache: as asked, or bfloat16 where the device multiplies it natively."""
    if settings.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
    if device.type == "cuda":
        return torch.bfloat16
    can = torch.cpu.get_capabilities()
    return torch.bfloat16 if can.get("amx_bf16") or can.get("avx512_bf16") else torch.float32
