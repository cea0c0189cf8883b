"""The `config.json` of a source."""

import json
from typing import Any

from byollm.modeling.config import DecoderConfig
from byollm.modeling.errors import CheckpointError, ModelConfigError
from byollm.modeling.packing.source import Source, read_bytes
from byollm.modeling.stored_check import CONFIG


def read_config(source: Source) -> tuple[dict[str, Any], DecoderConfig]:
    """Return what the file says, and the shape that it describes.

    Raises:
        CheckpointError: it is absent or damaged, or the model is not supported.
    """
    if CONFIG not in source.files():
        raise CheckpointError(f"{source.name}: {CONFIG} is absent; expected a model in Hugging Face's format")
    try:
        config = json.loads(read_bytes(source, CONFIG))
    except ValueError as error:
        raise CheckpointError(
            f"{source.name}: {CONFIG} is not JSON ({error}); copy the file afresh"
        ) from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{source.name}: {CONFIG} is no JSON object; copy the file afresh")
    try:
        return config, DecoderConfig.from_hf(config)
    except ModelConfigError as error:
        raise CheckpointError(f"{source.name}: {error}") from None
