"""A training job as SageMaker hands it to a container: what to train, on what, and where the results go.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byollm.settings import Settings
from byollm.training.errors import TrainingError
from byollm.training.finetune import finetune
from byollm.training.pretrain import pretrain
from byollm.training.trainer import Outcome

TASKS = ("pretrain", "finetune")
RESULTS = ("summary.json", "curve.png", "log.jsonl")
FAILURE_SIZE = 1024  # characters that DescribeTrainingJob shows of it
THEIRS = ("sagemaker_", "_tuning_")  # hyperparameters that SageMaker itself adds


def run_job(root: Path, settings: Settings) -> Outcome:
    """Run the job that stands in `root`, or go on with it where its checkpoints end.

    The hyperparameter `task` is `pretrain`, which reads the channel `train` as `byollm data prepare` wrote
    it, or `finetune`, which reads there what `byollm data conversations` wrote, and the model from `model`.
    Every other one is a setting of that section, such as `budget.amount`. The run is in `checkpoints/`, which
    SageMaker keeps through the loss of a spot instance; a finished one leaves the model in `model/`.

    Args:
        root: `/opt/ml` of the container
        settings: what hyperparameters change

    Raises:
        SettingsError: a hyperparameter is unknown or not allowed.
        TrainingError: the job lacks something, or what `pretrain` and `finetune` raise.
    """
    given = _configured(root, "hyperparameters")
    if len(_configured(root, "resourceconfig").get("hosts", ())) > 1:
        raise TrainingError("the job has several instances, and training is for one: set InstanceCount to 1")
    given = {name: text for name, text in given.items() if not name.startswith(THEIRS)}
    task = given.pop("task", TASKS[0])
    if task not in TASKS:
        raise TrainingError(f"the hyperparameter task is {task!r}; it is one of {', '.join(TASKS)}")
    run = root / "checkpoints" / "run"
    if task == "pretrain":
        recipe = settings.pretrain.override(**_nested(given, settings.pretrain.model_dump()))
        outcome = pretrain(recipe, _channel(root, "train", "byollm data prepare"), run)
    else:
        tuning = settings.finetune.override(**_nested(given, settings.finetune.model_dump()))
        data = _channel(root, "train", "byollm data conversations")
        outcome = finetune(tuning, _channel(root, "model", "byollm pretrain"), data, run)
    if outcome.finished:
        _deliver(run, root)
    return outcome


def tell_failure(root: Path, error: Exception) -> None:
    """Write down why a job failed, for DescribeTrainingJob to show."""
    text = str(error) or type(error).__name__
    (root / "output").mkdir(parents=True, exist_ok=True)
    (root / "output" / "failure").write_text(text[:FAILURE_SIZE], encoding="utf-8")


def _configured(root: Path, name: str) -> dict[str, Any]:
    path = root / "input" / "config" / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise TrainingError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise TrainingError(f"{path} holds no object")
    return found


def _channel(root: Path, name: str, writer: str) -> Path:
    path = root / "input" / "data" / name
    if not path.is_dir():
        raise TrainingError(
            f"the job has no channel {name!r}: give it one in InputDataConfig, with what `{writer}` wrote"
        )
    return path


def _nested(given: Mapping[str, str], section: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that hyperparameters name, `model.layers` over what `section` says of `model`."""
    out: dict[str, Any] = {}
    for name, text in given.items():
        first, _, rest = name.partition(".")
        if rest:
            present = out.get(first) or section.get(first)
            out[first] = {**(present if isinstance(present, dict) else {}), rest: _value(text)}
        else:
            out[first] = _value(text)
    return out


def _value(text: str) -> Any:
    """Return what a hyperparameter means: JSON, or else a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _deliver(run: Path, root: Path) -> None:
    """Put what a finished run made where SageMaker fetches it: into folders that may be another user's."""
    told = root / "output" / "data"
    for folder in (root / "model", told):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (run / "model").iterdir():
        shutil.copyfile(file, root / "model" / file.name)
    for name in RESULTS:
        shutil.copyfile(run / name, told / name)
