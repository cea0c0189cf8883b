"""One decoder definition for every family, its checkpoints in Hugging Face's layout, and its tokenizer.

What needs torch is imported when it is first asked for: who only tokenises does without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from byollm.modeling.config import DecoderConfig
from byollm.modeling.detokenizer import IncrementalDetokenizer
from byollm.modeling.errors import (
    AdapterError,
    CheckpointError,
    ModelConfigError,
    ModelingError,
    TokenizerError,
)
from byollm.modeling.rope_scaling import RopeScaling
from byollm.modeling.tokenizer import Tokenizer

if TYPE_CHECKING:
    from byollm.modeling.adapter import Adapter, LoraPair, load_adapter
    from byollm.modeling.checkpoint import load_config, load_decoder, save_decoder
    from byollm.modeling.decoder import Decoder
    from byollm.modeling.layers import Attend

__all__ = [
    "Adapter",
    "AdapterError",
    "Attend",
    "CheckpointError",
    "Decoder",
    "DecoderConfig",
    "IncrementalDetokenizer",
    "LoraPair",
    "ModelConfigError",
    "ModelingError",
    "RopeScaling",
    "Tokenizer",
    "TokenizerError",
    "load_adapter",
    "load_config",
    "load_decoder",
    "save_decoder",
]

_WITH_TORCH = {
    "Adapter": "adapter",
    "Attend": "layers",
    "Decoder": "decoder",
    "LoraPair": "adapter",
    "load_adapter": "adapter",
    "load_config": "checkpoint",
    "load_decoder": "checkpoint",
    "save_decoder": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        return getattr(import_module(f"byollm.modeling.{_WITH_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
