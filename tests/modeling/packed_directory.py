"""Writes packed decoders from memory, as `byollm quantize` lays them out."""

import json
from pathlib import Path

from byollm.modeling import Decoder
from byollm.modeling.packed import quantization_config
from byollm.modeling.weight_files import write_weights


def save_packed(decoder: Decoder, directory: Path, shard_bytes: int = 5_000_000_000) -> Path:
    """Write config and weights of a packed decoder."""
    assert decoder.scheme is not None
    directory.mkdir(parents=True, exist_ok=True)
    write_weights(decoder.state_dict(), directory, shard_bytes)
    said = {"quantization_config": quantization_config(decoder.scheme, calibrated=False)}
    (directory / "config.json").write_text(json.dumps(decoder.config.to_hf() | said))
    return directory
