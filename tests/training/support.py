"""A corpus and runs small enough for tests, and what two runs are compared by."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from byollm.settings.training import Budget, FinetuneSettings, ModelShape, PretrainSettings
from byollm.training.reporter import Reporter

SUBJECTS = ["the cat", "a dog", "my teacher", "the old king", "every child", "the river"]
VERBS = ["sees", "likes", "follows", "remembers", "paints", "hears"]
PLACES = ["in the garden", "by the sea", "at night", "under the tree", "in the city", "every morning"]
TIMES = {"seconds", "tokens_per_second", "mfu"}


def sentences(count: int, seed: int) -> str:
    """Text with a grammar that a tiny model learns in a few steps."""
    draw = random.Random(seed)
    return " ".join(
        f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(SUBJECTS)} {draw.choice(PLACES)}."
        for _ in range(count)
    )


def conversation(number: int) -> dict[str, Any]:
    """A question whose answer repeats its subject."""
    draw = random.Random(number)
    subject, verb = draw.choice(SUBJECTS), draw.choice(VERBS)
    return {
        "messages": [
            {"role": "user", "content": f"Who {verb}? {number}"},
            {"role": "assistant", "content": f"{subject} {verb}."},
        ]
    }


def recipe(**values: Any) -> PretrainSettings:
    """Twelve steps of a model with two narrow layers, a checkpoint after each."""
    shape = ModelShape(hidden_size=32, layers=2, heads=2, kv_heads=1, head_dim=16, intermediate_size=48)
    defaults = PretrainSettings(
        model=shape,
        budget=Budget(amount=12, unit="steps"),
        sequence_length=64,
        batch_size=2,
        compile=False,
        precision="float32",  # on every processor
        validations=3,
        validation_tokens=256,
        checkpoint_minutes=0,
    )
    return defaults.override(**values)


def chat_recipe(**values: Any) -> FinetuneSettings:
    """Eight steps on conversations."""
    defaults = FinetuneSettings(
        budget=Budget(amount=8, unit="steps"),
        sequence_length=64,
        batch_size=2,
        compile=False,
        precision="float32",
        validations=2,
        checkpoint_minutes=0,
    )
    return defaults.override(**values)


class Crash(Exception):
    """Ends a run without warning."""


class Recorder(Reporter):
    """Keeps what is reported; ends the run when step `crash_at` was taken, before its checkpoint."""

    def __init__(self, crash_at: int | None = None) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.losses: list[float] = []
        self._crash_at = crash_at

    def step(self, record: dict[str, Any]) -> None:
        self.losses.append(record["loss"])
        if record["step"] == self._crash_at:
            raise Crash

    def note(self, text: str) -> None:
        self.notes.append(text)


def result(run: Path) -> dict[str, Any]:
    """What must be the same for two runs: weights and log, without what a clock gave."""
    lines = (run / "log.jsonl").read_text().splitlines()
    log = [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]
    weights = load_file(run / "model" / "model.safetensors")
    return {
        "log": log,
        "weights": {name: tensor.view(torch.int32).tolist() for name, tensor in weights.items()},
    }
