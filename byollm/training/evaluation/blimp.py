"""BLiMP as lm-eval tasks, made from the pack instead of a download.

BLiMP (Warstadt et al. 2020, https://arxiv.org/abs/1912.00582) holds 67 paradigms of 1,000 pairs of sentences
that differ in one point of grammar. A pair counts where the model finds the grammatical sentence the
likelier; a model that knows no grammar is right in half of them.
"""

import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
from lm_eval.api.group import Group
from lm_eval.api.task import ConfigurableTask
from lm_eval.config.group import AggMetricConfig

from byollm.training.evaluation.errors import EvaluationError

PACK = "blimp.tar.xz"
CHANCE = 0.5
# Sentences are scored as they stand. lm-eval's own definition puts a space before each, which no document of
# ours begins with.
CONFIG: dict[str, Any] = {
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": lambda pair: "",
    "doc_to_target": lambda pair: 0,
    "doc_to_choice": lambda pair: [pair["sentence_good"], pair["sentence_bad"]],
    "target_delimiter": "",
    "num_fewshot": 0,
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1.0},
}


class Paradigm(ConfigurableTask):  # type: ignore[misc]  # lm-eval carries no types
    """One paradigm: pairs that differ in the same point of grammar."""

    def __init__(self, name: str, pairs: list[dict[str, str]]) -> None:
        self._pairs = pairs
        super().__init__(config={**CONFIG, "task": name})

    def download(self, *_: Any, **__: Any) -> None:
        """Hand over the pairs; nothing is downloaded."""
        self.dataset = datasets.DatasetDict(test=datasets.Dataset.from_list(self._pairs))


def blimp(directory: Path) -> Group:
    """Return BLiMP: a group of phenomena, each a group of paradigms; accuracies are means over all pairs.

    Args:
        directory: the data directory, which holds the pack

    Raises:
        EvaluationError: the pack is absent or cannot be read.
    """
    whole = _group("blimp")
    for name, pairs in sorted(_read(directory / PACK).items()):
        phenomenon = f"blimp_{pairs[0]['linguistics_term']}"
        group = whole.get(phenomenon)
        if not isinstance(group, Group):
            group = _group(phenomenon)
            whole.add(group)
        group.add(Paradigm(f"blimp_{name}", pairs))
    return whole


def _group(name: str) -> Group:
    return Group(name, aggregate_metric_list=[AggMetricConfig("acc", weight_by_size=True)])


def _read(pack: Path) -> dict[str, list[dict[str, str]]]:
    """Read the pairs of every paradigm, by its name."""
    if not pack.is_file():
        raise EvaluationError(
            f"there is no {pack}: BLiMP is read from this pack; name the data directory that holds it with "
            "--data or the setting data.directory (BYOLLM__DATA__DIRECTORY)"
        )
    paradigms: dict[str, list[dict[str, str]]] = {}
    try:
        with tarfile.open(pack) as archive:
            for member in archive:
                if member.name.endswith(".jsonl") and (file := archive.extractfile(member)) is not None:
                    paradigms[Path(member.name).stem] = [
                        _pair(line, f"{pack}: {member.name}, line {number}")
                        for number, line in enumerate(file, 1)
                    ]
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise EvaluationError(f"{pack} cannot be read ({error}); fetch the pack anew") from error
    if not paradigms or not all(paradigms.values()):
        raise EvaluationError(f"{pack} lacks pairs; expected BLiMP's 67 .jsonl files, none of them empty")
    return paradigms


def _pair(line: bytes, where: str) -> dict[str, str]:
    """Read a pair of sentences and the name of the phenomenon it tests."""
    try:
        pair = {key: json.loads(line)[key] for key in ("sentence_good", "sentence_bad", "linguistics_term")}
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{where}: not a BLiMP pair ({error!r}); fetch the pack anew") from None
    if not all(isinstance(value, str) and value for value in pair.values()):
        raise EvaluationError(f"{where}: a sentence is empty or no text; fetch the pack anew")
    return pair
