import json
import shutil
from pathlib import Path

import pytest
import torch

from byollm.data import DataError
from byollm.data.chat import ConversationDataset
from byollm.modeling.checkpoint import load_decoder
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.modeling.tokenizer import Tokenizer
from byollm.settings.training import Budget
from byollm.training import TrainingError
from byollm.training.finetune import finetune
from tests.modeling.packed_directory import save_packed
from tests.training.support import Crash, Recorder, chat_recipe, result


@pytest.fixture(scope="module")
def tuned(unbroken_run: Path, conversations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("tuned") / "run"
    finetune(chat_recipe(), unbroken_run / "model", conversations, run, Recorder())
    return run


def test_answers_are_learnt(unbroken_run: Path, conversations: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    recipe = chat_recipe(
        budget=Budget(amount=40, unit="steps"), matrix_learning_rate=0.02, learning_rate=0.004
    )
    finetune(recipe, unbroken_run / "model", conversations, tmp_path, recorder)
    assert recorder.losses[-1] < 0.7 * recorder.losses[0]


def test_the_model_ends_its_turn(tuned: Path) -> None:
    tokenizer = Tokenizer.load(tuned / "model")
    ends = json.loads((tuned / "model" / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [*tokenizer.encode("<|im_end|>"), *tokenizer.encode("<|endoftext|>")]


def test_all_weights_move(unbroken_run: Path, tuned: Path) -> None:
    before = load_decoder(unbroken_run / "model").state_dict()
    after = load_decoder(tuned / "model").state_dict()
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_validation_counts_answers_only(unbroken_run: Path, conversations: Path, tuned: Path) -> None:
    summary = json.loads((tuned / "summary.json").read_text())
    val = ConversationDataset.open(conversations, "val", unbroken_run / "model")
    assert summary["validation_tokens"] == val.answer_tokens < val.tokens


def test_a_broken_run_ends_as_the_unbroken_one(
    unbroken_run: Path, conversations: Path, tuned: Path, tmp_path: Path
) -> None:
    base = unbroken_run / "model"
    with pytest.raises(Crash):
        finetune(chat_recipe(), base, conversations, tmp_path, Recorder(crash_at=4))
    finetune(chat_recipe(), base, conversations, tmp_path, Recorder())
    assert result(tmp_path) == result(tuned)


def test_a_row_longer_than_the_model_reads_is_refused(
    unbroken_run: Path, conversations: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"sequence_length is 128, but .* reads at most 64"):
        finetune(
            chat_recipe(sequence_length=128), unbroken_run / "model", conversations, tmp_path, Recorder()
        )


def test_a_packed_base_is_refused(unbroken_run: Path, conversations: Path, tmp_path: Path) -> None:
    decoder = load_decoder(unbroken_run / "model")
    pack_decoder(decoder, Scheme("int4"))
    base = save_packed(decoder, Path(shutil.copytree(unbroken_run / "model", tmp_path / "packed")))
    with pytest.raises(TrainingError, match=r"packed into int4.*Name the model that it was packed from"):
        finetune(chat_recipe(), base, conversations, tmp_path / "run", Recorder())


def test_conversations_that_do_not_fit_are_counted(
    unbroken_run: Path, conversations: Path, tmp_path: Path
) -> None:
    long = {"messages": [{"role": "user", "content": "why " * 100}, {"role": "assistant", "content": "so"}]}
    directory = tmp_path / "conversations"
    directory.mkdir()
    for split in ("train", "val"):
        lines = (conversations / f"{split}.jsonl").read_text()
        (directory / f"{split}.jsonl").write_text(lines + json.dumps(long) + "\n")
    recorder = Recorder()
    recipe = chat_recipe(budget=Budget(amount=1, unit="steps"))
    finetune(recipe, unbroken_run / "model", directory, tmp_path / "run", recorder)
    assert any("1 of 101 training conversations are left out" in note for note in recorder.notes)


def test_missing_conversations_name_the_command_that_makes_them(unbroken_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="byollm data conversations"):
        finetune(chat_recipe(), unbroken_run / "model", tmp_path / "nowhere", tmp_path / "run", Recorder())
