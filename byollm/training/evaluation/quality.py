"""What a model lost when it was packed: both predict the same held-out text."""

from pathlib import Path

import torch

from byollm.modeling import load_decoder
from byollm.modeling.packing.record import Quality
from byollm.settings.training import Recipe
from byollm.training.evaluation.held_out import validate_held_out
from byollm.training.evaluation.progress import progress
from byollm.training.hardware import Hardware
from byollm.training.validation import Validation


def compare(before: Path, after: Path, prepared: Path, recipe: Recipe, tokens: int | None = None) -> Quality:
    """Return how well two models predict the text that `byollm data prepare` held out, in float32.

    Args:
        before: the float model; it is whole in memory while it predicts.
        after: the packed one, with the tokenizer.
        prepared: the data, prepared with that tokenizer.
        recipe: gives device, threads, and the rows of the validation.
        tokens: about so many, spread over that text; None: all of it.

    Raises:
        ByollmError: a model or the data are not there or do not fit; the message says which.
    """
    hardware = Hardware.choose(recipe.override(precision="float32"))

    def validate(what: str, model: Path) -> Validation:
        decoder = load_decoder(model, torch.float32, hardware.device)
        length = min(recipe.sequence_length, decoder.config.max_positions)
        with progress(f"held-out text, {what}") as advance:
            return validate_held_out(
                decoder, after / "tokenizer.json", prepared, length, recipe.batch_size, advance, tokens
            )

    float_, packed = validate("before", before), validate("after", after)
    return Quality(
        bits_per_byte_before=float_.bits_per_byte,
        bits_per_byte_after=packed.bits_per_byte,
        perplexity_before=float_.perplexity,
        perplexity_after=packed.perplexity,
        tokens=float_.tokens,
    )
