"""One decoder definition for every family, its checkpoints in Hugging Face's layout, and its tokenizer.

What needs torch or tokenizers is imported when it is first asked for: who only names an error does without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from byollm.modeling.config import DecoderConfig
from byollm.modeling.errors import (
    AdapterError,
    CheckpointError,
    ModelConfigError,
    ModelingError,
    TokenizerError,
)
from byollm.modeling.rope_scaling import RopeScaling

if TYPE_CHECKING:
    from byollm.modeling.adapter import Adapter, LoraPair, load_adapter
    from byollm.modeling.checkpoint import load_config, load_decoder, save_decoder
    from byollm.modeling.decoder import Decoder
    from byollm.modeling.detokenizer import IncrementalDetokenizer
    from byollm.modeling.layers import Attend
    from byollm.modeling.tokenizer import Tokenizer

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

_HEAVY = {
    "Adapter": "adapter",
    "Attend": "layers",
    "Decoder": "decoder",
    "IncrementalDetokenizer": "detokenizer",
    "LoraPair": "adapter",
    "Tokenizer": "tokenizer",
    "load_adapter": "adapter",
    "load_config": "checkpoint",
    "load_decoder": "checkpoint",
    "save_decoder": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(f"byollm.modeling.{_HEAVY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
