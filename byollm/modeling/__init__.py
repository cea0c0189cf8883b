"""One decoder definition for every family, its checkpoints in Hugging Face's layout, and its tokenizer."""

from byollm.modeling.checkpoint import load_config, load_decoder, save_decoder
from byollm.modeling.config import DecoderConfig
from byollm.modeling.decoder import Decoder
from byollm.modeling.detokenizer import IncrementalDetokenizer
from byollm.modeling.errors import CheckpointError, ModelConfigError, ModelingError, TokenizerError
from byollm.modeling.layers import Attend
from byollm.modeling.rope_scaling import RopeScaling
from byollm.modeling.tokenizer import Tokenizer

__all__ = [
    "Attend",
    "CheckpointError",
    "Decoder",
    "DecoderConfig",
    "IncrementalDetokenizer",
    "ModelConfigError",
    "ModelingError",
    "RopeScaling",
    "Tokenizer",
    "TokenizerError",
    "load_config",
    "load_decoder",
    "save_decoder",
]
