"""`summary.json` and `model/`: what a finished run leaves behind."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from byollm import __version__
from byollm.data.storage import sha256, write_json
from byollm.modeling import Decoder
from byollm.modeling.checkpoint import save_decoder
from byollm.modeling.tokenizer import Tokenizer
from byollm.settings.training import Recipe
from byollm.training.hardware import Hardware
from byollm.training.run_log import read_log
from byollm.training.trainer import Outcome

LAST_STEPS = 50  # that the final training loss is a mean of


def finish(
    run: Path,
    model: Decoder,
    tokenizer: Tokenizer,
    eos_ids: Sequence[int],
    outcome: Outcome,
    recipe: Recipe,
    hardware: Hardware,
    **inputs: Any,
) -> None:
    """Save the trained model and the summary of its run.

    Args:
        eos_ids: the tokens that end a generation
        inputs: where the run's data came from, for the summary

    Raises:
        CheckpointError, DataError: the disk is full or refuses.
    """
    save_decoder(model, run / "model", tokenizer, eos_ids=eos_ids)
    steps = [record for record in read_log(run / "log.jsonl") if "loss" in record]
    speed = median(record["tokens_per_second"] for record in steps)
    flops = 3 * model.config.flops_per_token(recipe.sequence_length)
    found = outcome.validation
    assert found is not None, "a finished run has validated at its last step"
    summary = {
        "parameters": model.config.num_parameters(),
        "tokens": outcome.tokens,
        "steps": outcome.steps,
        "minutes": round(outcome.seconds / 60, 3),
        "tokens_per_second": round(speed, 1),
        "peak_gflops": round(outcome.peak_flops / 1e9, 1),
        "mfu": round(speed * flops / outcome.peak_flops, 4),
        "training_loss": mean(record["loss"] for record in steps[-LAST_STEPS:]),
        "validation_loss": found.loss,
        "validation_accuracy": found.accuracy,
        "bits_per_byte": found.bits_per_byte,
        "validation_tokens": found.tokens,
        "tokenizer": {
            "vocab_size": tokenizer.vocab_size,
            "sha256": sha256(run / "model" / "tokenizer.json"),
        },
        "seed": recipe.seed,
        "hardware": hardware.describe(),
        "weights": {path.name: sha256(path) for path in sorted((run / "model").glob("*.safetensors"))},
        "inputs": inputs,
        "settings": recipe.model_dump(mode="json"),
        "byollm": __version__,
    }
    write_json(run / "summary.json", summary)
