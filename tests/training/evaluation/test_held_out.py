"""Held-out text is predicted as by transformers."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from byollm.modeling import load_decoder
from byollm.training.evaluation.errors import EvaluationError
from byollm.training.evaluation.held_out import validate_held_out


def test_held_out_text_is_predicted_as_transformers_does(
    model: Path, prepared: Path, reference: Callable[[list[int], int], tuple[float, bool]]
) -> None:
    seen: list[tuple[int, int]] = []
    found = validate_held_out(
        load_decoder(model, torch.float32),
        model / "tokenizer.json",
        prepared,
        length=32,
        batch_size=3,
        advance=lambda done, total: seen.append((done, total)),
    )
    manifest = json.loads((prepared / "manifest.json").read_text())["splits"]["val"]
    [shard] = manifest["shards"]
    tokens = torch.frombuffer(
        bytearray((prepared / f"{shard['name']}.bin").read_bytes()), dtype=torch.uint16
    ).tolist()
    nats = 0.0
    for begin in range(0, len(tokens) - 1, 32):
        row = tokens[begin : begin + 33]
        nats -= reference(row, len(row) - 1)[0]
    assert found.tokens == len(tokens) - 1
    assert found.loss == pytest.approx(nats / (len(tokens) - 1), rel=1e-5)
    bits_per_token = nats / math.log(2) / (len(tokens) - 1)
    assert found.bits_per_byte == pytest.approx(bits_per_token * len(tokens) / manifest["bytes"], rel=1e-5)
    rows = math.ceil((len(tokens) - 1) / 32)
    assert seen == [(done, rows) for done in range(1, rows + 1)]


def test_text_of_another_tokenizer_is_refused(model: Path, prepared: Path, tmp_path: Path) -> None:
    other = json.loads((model / "tokenizer.json").read_text())
    vocabulary = other["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "tokenizer.json").write_text(json.dumps(other))
    decoder = load_decoder(model, torch.float32)
    with pytest.raises(EvaluationError, match="prepared with another tokenizer"):
        validate_held_out(decoder, tmp_path / "tokenizer.json", prepared, length=32, batch_size=4)
