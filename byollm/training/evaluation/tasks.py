"""Runs lm-eval tasks on a decoder: BLiMP from the pack, lm-eval's own, and those that a YAML file defines."""

import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from byollm.training.evaluation.blimp import CHANCE, blimp
from byollm.training.evaluation.errors import EvaluationError
from byollm.training.evaluation.scorer import DecoderScorer


@dataclass(frozen=True)
class Score:
    """What a model scored in a task, or over a group of tasks."""

    task: str
    metrics: Mapping[str, float]
    """By lm-eval's names: `acc` and its standard error `acc_stderr`, say."""
    samples: int
    chance: float | None = None
    """The accuracy of blind choice, where it is known."""
    parts: list["Score"] = field(default_factory=list)


def run_tasks(
    scorer: DecoderScorer, names: Sequence[str], directory: Path, limit: int | None = None
) -> list[Score]:
    """Run tasks and return what was scored in each.

    Args:
        scorer: the model
        names: `blimp`, one of its phenomena or paradigms such as `blimp_island_effects`, the path of a YAML
            file in lm-eval's format, or a task of lm-eval's own, whose data it then downloads
        directory: the data directory with the packs
        limit: run only this many samples of every task

    Raises:
        EvaluationError: a task is unknown, its data are absent, or it asks for more than likelihoods.
    """
    loaded = _load(names, directory)
    results = lm_eval.evaluate(scorer, loaded, limit=limit, log_samples=False)["results"]
    groups: Mapping[str, Group] = loaded["groups"]
    inner = {child for group in groups.values() for child in group.child_names}
    return [_score(name, results, groups) for name in [*groups, *loaded["tasks"]] if name not in inner]


def _score(name: str, results: Mapping[str, Any], groups: Mapping[str, Group]) -> Score:
    """Gather a task's figures, or a group's with those of its children."""
    # lm-eval writes a metric as "acc,none": its name and the filter of the answers.
    metrics = {
        key.removesuffix(",none"): float(value)
        for key, value in results[name].items()
        if "," in key and isinstance(value, int | float)
    }
    return Score(
        task=name,
        metrics=metrics,
        samples=results[name]["sample_len"],
        chance=CHANCE if name == "blimp" or name.startswith("blimp_") else None,
        parts=[_score(child, results, groups) for child in groups[name].child_names]
        if name in groups
        else [],
    )


def _load(names: Sequence[str], directory: Path) -> Any:
    """Find or make each task; lm-eval's own index of thousands is read only where it is needed."""
    pack = functools.cache(lambda: blimp(directory))
    library = functools.cache(TaskManager)
    tasks: list[Group | Task] = []
    for name in names:
        if name.split("_")[0] == "blimp":
            tasks.append(_part(pack(), name))
        elif name.endswith((".yaml", ".yml")):
            tasks.append(_from_library(TaskManager(include_defaults=False), name))
        elif name in library().all_tasks:
            tasks.append(_from_library(library(), name))
        else:
            near = difflib.get_close_matches(name, ["blimp", *library().all_tasks])
            raise EvaluationError(
                f"unknown task {name!r}; there is blimp, each phenomenon and paradigm of it, every task of "
                f"lm-eval ({len(library().all_tasks)} of them), and lm-eval's YAML files by their path"
                + (f"; close to it: {', '.join(near)}" if near else "")
            )
    try:
        return TaskManager(include_defaults=False).load(tasks)
    except ValueError as error:  # the same task twice
        raise EvaluationError(f"{error}; name each task once") from None


def _part(group: Group, name: str) -> Group | Task:
    """Find a group or a task by its name within BLiMP."""
    parts = {group.name: group} | {part.name: part for part in group.get_all_groups()}
    parts |= {task.task_name: task for task in group.get_all_tasks()}
    if name not in parts:
        phenomena = ", ".join(part.name for part in group.get_all_groups())
        near = difflib.get_close_matches(name, parts)
        raise EvaluationError(
            f"unknown task {name!r}; of BLiMP there is: blimp, {phenomena}, and their paradigms"
            + (f"; close to it: {', '.join(near)}" if near else "")
        )
    return parts[name]


def _from_library(manager: TaskManager, name: str) -> Any:
    try:
        loaded = manager.load([name])
    except (OSError, ValueError, KeyError) as error:
        raise EvaluationError(
            f"task {name} cannot be loaded: {error}; lm-eval's own tasks download their data from a hub; "
            "without one, define the task on local files in a YAML file of lm-eval's format, and name that"
        ) from error
    tops = loaded["groups"] or loaded["tasks"]
    return next(iter(tops.values()))
