"""Tasks of lm-eval: accuracy over pairs, files of one's own, and what is wrong with a pack."""

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest

from byollm.training.evaluation import tasks
from byollm.training.evaluation.errors import EvaluationError
from byollm.training.evaluation.scorer import DecoderScorer, document_start
from byollm.training.evaluation.tasks import run_tasks
from tests.training.evaluation.support import pack, sentence


def test_accuracy_counts_the_pairs_whose_good_sentence_is_likelier(
    scorer: DecoderScorer, reference: Callable[[list[int], int], tuple[float, bool]], tmp_path: Path
) -> None:
    chance = random.Random(4)
    start, encode = document_start(scorer.text), scorer.text.encode

    def pair(right: bool, phenomenon: str) -> dict[str, str]:
        texts = [sentence(chance, 5), sentence(chance, 5)]
        ranked = sorted(texts, key=lambda text: reference([start, *encode(text)], len(encode(text)))[0])
        good, bad = (ranked[1], ranked[0]) if right else (ranked[0], ranked[1])
        return {"sentence_good": good, "sentence_bad": bad, "linguistics_term": phenomenon}

    directory = pack(
        tmp_path,
        {
            "all_right": [pair(True, "agreement") for _ in range(10)],
            "three_of_ten": [pair(i < 3, "agreement") for i in range(10)],
            "all_wrong": [pair(False, "islands") for _ in range(4)],
        },
    )
    [score] = run_tasks(scorer, ["blimp"], directory)
    assert score.metrics["acc"] == pytest.approx(13 / 24)
    assert score.samples == 24
    assert score.chance == 0.5
    assert 0.02 < score.metrics["acc_stderr"] < 0.1
    phenomena = {part.task: part for part in score.parts}
    assert {name: part.metrics["acc"] for name, part in phenomena.items()} == {
        "blimp_agreement": pytest.approx(0.65),
        "blimp_islands": 0.0,
    }
    paradigms = {part.task: part.metrics["acc"] for part in phenomena["blimp_agreement"].parts}
    assert paradigms == {"blimp_all_right": 1.0, "blimp_three_of_ten": pytest.approx(0.3)}
    one = run_tasks(scorer, ["blimp_three_of_ten", "blimp_islands"], directory, limit=3)
    assert {part.task: (part.metrics["acc"], part.samples) for part in one} == {
        "blimp_three_of_ten": (1.0, 3),
        "blimp_islands": (0.0, 3),
    }
    with pytest.raises(EvaluationError, match=r"blimp_agreement, blimp_islands.*close to it: blimp_islands"):
        run_tasks(scorer, ["blimp_island"], directory)


def test_a_task_of_a_yaml_file_runs(scorer: DecoderScorer, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"q": "The cat", "right": " sees", "wrong": " see"}\n' * 3)
    choosing = {
        "task": "choosing",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "docs.jsonl")}, "cache_dir": str(tmp_path)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_target": 0,
        "doc_to_choice": "{{[right, wrong]}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    file = tmp_path / "choosing.yaml"
    file.write_text(json.dumps(choosing))  # JSON is YAML
    [score] = run_tasks(scorer, [str(file)], tmp_path)
    assert (score.task, score.samples, score.chance) == ("choosing", 3, None)
    assert score.metrics["acc"] in (0.0, 1.0)
    file.write_text(json.dumps(choosing | {"output_type": "generate_until", "metric_list": None}))
    with pytest.raises(EvaluationError, match="choosing lets the model write"):
        run_tasks(scorer, [str(file)], tmp_path)
    file.write_text(json.dumps(choosing | {"dataset_kwargs": {"data_files": {"test": "absent.jsonl"}}}))
    with pytest.raises(EvaluationError, match=r"cannot be loaded: Unable to find .*absent\.jsonl"):
        run_tasks(scorer, [str(file)], tmp_path)


def test_an_unknown_task_is_refused_with_what_there_is(
    scorer: DecoderScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Path(lm_eval.tasks.__file__).with_name("hellaswag")  # to read thousands takes half a minute
    few = partial(tasks.TaskManager, include_defaults=False, include_path=str(one))
    monkeypatch.setattr(tasks, "TaskManager", few)
    with pytest.raises(
        EvaluationError, match=r"unknown task 'hellaswagg'; there is blimp.*close.*: hellaswag"
    ):
        run_tasks(scorer, ["hellaswagg"], tmp_path)


def test_an_absent_pack_names_the_setting(scorer: DecoderScorer, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"blimp\.tar\.xz.*data\.directory \(BYOLLM__DATA__DIRECTORY\)"):
        run_tasks(scorer, ["blimp"], tmp_path)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([{"sentence_good": "A.", "sentence_bad": "B."}], r"p\.jsonl, line 1: not a BLiMP pair"),
        (
            [{"sentence_good": "A.", "sentence_bad": "", "linguistics_term": "x"}],
            r"p\.jsonl, line 1: a sentence is empty",
        ),
        ([], "lacks pairs"),
    ],
)
def test_a_damaged_pack_says_where(
    scorer: DecoderScorer, tmp_path: Path, pairs: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        run_tasks(scorer, ["blimp"], pack(tmp_path, {"p": pairs}))
    (tmp_path / "blimp.tar.xz").write_bytes(b"no archive")
    with pytest.raises(EvaluationError, match="cannot be read"):
        run_tasks(scorer, ["blimp"], tmp_path)
