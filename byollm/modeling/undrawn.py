"""Decoders of the right shape without numbers in them."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from byollm.modeling.config import DecoderConfig
from byollm.modeling.decoder import Decoder


def undrawn(config: DecoderConfig) -> Decoder:
    """Return a decoder on the meta device: names, shapes and types, and no memory behind them."""
    with torch.device("meta"), _Undrawn():
        return Decoder(config)


class _Undrawn(TorchFunctionMode):
    """Leaves weights undrawn.

    To draw normal numbers on the meta device, which are none, torch imports its compiler: that takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in (torch.nn.init.normal_, torch.Tensor.normal_):
            return func(*args, **(kwargs or {}))
        return None
