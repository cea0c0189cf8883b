import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from byollm.data import DataError
from byollm.data.storage import locked, sha256
from byollm.data.tokens import TokenDataset
from byollm.modeling.checkpoint import load_decoder
from byollm.modeling.tokenizer import Tokenizer
from byollm.settings import SettingsError
from byollm.settings.training import Budget
from byollm.training import TrainingError
from byollm.training.pretrain import pretrain
from tests.training.support import Recorder, recipe


def test_the_model_learns(data: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    pretrain(recipe(budget=Budget(amount=60, unit="steps"), checkpoint_minutes=5), data, tmp_path, recorder)
    assert recorder.losses[0] == pytest.approx(math.log(300), abs=0.2)
    assert recorder.losses[-1] < 0.6 * recorder.losses[0]


def test_narrow_products_keep_float32_masters_and_learn_as_much(data: Path, tmp_path: Path) -> None:
    losses = []
    for precision in ("bfloat16", "float32"):
        recorder = Recorder()
        budget = Budget(amount=10, unit="steps")
        settings = recipe(precision=precision, budget=budget, checkpoint_minutes=5, validations=1)
        pretrain(settings, data, tmp_path / precision, recorder)
        losses.append(recorder.losses)
        assert load_decoder(tmp_path / precision / "model").head_weight.dtype == torch.float32
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_run_leaves_model_log_curve_and_summary(data: Path, unbroken_run: Path) -> None:
    summary = json.loads((unbroken_run / "summary.json").read_text())
    model = load_decoder(unbroken_run / "model")
    assert (
        summary["parameters"] == model.config.num_parameters() == sum(p.numel() for p in model.parameters())
    )
    assert summary["tokens"] == 12 * 2 * 64
    assert summary["steps"] == 12
    assert summary["tokenizer"]["vocab_size"] == Tokenizer.load(unbroken_run / "model").vocab_size == 300
    assert summary["weights"] == {"model.safetensors": sha256(unbroken_run / "model" / "model.safetensors")}
    assert summary["inputs"] == {"command": "pretrain", "data": sha256(data / "manifest.json")}
    assert summary["settings"]["model"]["hidden_size"] == 32
    assert (unbroken_run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((unbroken_run / "model" / "generation_config.json").read_text())["eos_token_id"] == 0


def test_the_log_has_each_step_and_validation_once_and_in_order(unbroken: dict[str, Any]) -> None:
    log = unbroken["log"]
    assert [record["step"] for record in log if "loss" in record] == list(range(1, 13))
    assert [record["step"] for record in log if "validation" in record] == [4, 8, 12]
    assert [record["step"] for record in log] == sorted(record["step"] for record in log)
    assert {"loss", "tokens", "gradient_norm", "learning_rate", "matrix_learning_rate"} <= log[0].keys()


def test_validation_is_what_the_definitions_say(data: Path, unbroken_run: Path) -> None:
    summary = json.loads((unbroken_run / "summary.json").read_text())
    model, val = load_decoder(unbroken_run / "model"), TokenDataset.open(data, "val")
    nats = torch.zeros(())
    correct = count = 0
    with torch.no_grad():
        for inputs, targets in val.windows(64):
            scores = model.logits(model(inputs[None], torch.arange(64)))[0]
            nats += F.cross_entropy(scores, targets, reduction="sum")
            correct += int((scores.argmax(-1) == targets).sum())
            count += int((targets >= 0).sum())
    assert summary["validation_tokens"] == count == val.tokens - 1
    assert summary["validation_loss"] == pytest.approx(nats.item() / count, rel=1e-4)
    assert summary["validation_accuracy"] == pytest.approx(correct / count, abs=1e-6)
    bits = summary["validation_loss"] * val.tokens / (math.log(2) * val.bytes)
    assert summary["bits_per_byte"] == pytest.approx(bits)


def test_budgets_are_counted_in_steps(data: Path, tmp_path: Path) -> None:
    windows = TokenDataset.open(data, "train").windows_per_epoch(64)
    for name, budget, steps in [
        ("tokens", Budget(amount=200, unit="tokens"), 2),  # 128 tokens a step, rounded up
        ("epochs", Budget(amount=2 / windows, unit="epochs"), 1),
    ]:
        outcome = pretrain(recipe(budget=budget), data, tmp_path / name, Recorder())
        assert outcome.total_steps == steps


def test_another_seed_is_another_run(data: Path, tmp_path: Path) -> None:
    losses = []
    for seed in (0, 1):
        recorder = Recorder()
        pretrain(
            recipe(seed=seed, budget=Budget(amount=2, unit="steps")), data, tmp_path / str(seed), recorder
        )
        losses.append(recorder.losses)
    assert losses[0] != losses[1]


def test_missing_data_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="byollm data prepare"):
        pretrain(recipe(), tmp_path / "nowhere", tmp_path / "run", Recorder())


def test_data_shorter_than_a_row_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fewer than one window of 10,000,000"):
        pretrain(recipe(sequence_length=10_000_000), data, tmp_path / "run", Recorder())


def test_a_tokenizer_of_another_vocabulary_is_refused(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "data"
    shutil.copytree(data, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"vocab_size": 290}))
    with pytest.raises(TrainingError, match=r"vocabulary of 290, the tokenizer beside them has 300"):
        pretrain(recipe(), other, tmp_path / "run", Recorder())


def test_a_token_beyond_the_vocabulary_is_refused(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "data"
    shutil.copytree(data, other)
    shard = other / "train-00000.bin"
    shard.write_bytes(b"\xff\x01" * (shard.stat().st_size // 2))
    with pytest.raises(TrainingError, match="holds token 511, but the model's vocabulary ends at 299"):
        pretrain(recipe(), other, tmp_path / "run", Recorder())


def test_two_processes_cannot_train_into_one_directory(data: Path, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(DataError, match="another run is writing here"):
        pretrain(recipe(), data, tmp_path, Recorder())


def test_a_shape_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"heads \(3\) must be a multiple of kv_heads \(2\)"):
        recipe(model={**recipe().model.model_dump(), "heads": 3, "kv_heads": 2})
