"""One decoder definition for every family, its checkpoints in Hugging Face's layout, and its tokenizer."""

from byollm.modeling.config import DecoderConfig
from byollm.modeling.decoder import Decoder
from byollm.modeling.errors import CheckpointError, ModelConfigError, ModelingError, TokenizerError
from byollm.modeling.layers import Attend
from byollm.modeling.rope_scaling import RopeScaling

__all__ = [
    "Attend",
    "CheckpointError",
    "Decoder",
    "DecoderConfig",
    "ModelConfigError",
    "ModelingError",
    "RopeScaling",
    "TokenizerError",
]
