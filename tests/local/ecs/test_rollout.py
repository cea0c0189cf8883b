"""A rolling deployment stays between its percentages, and gives up nothing that works before its time."""

from dataclasses import dataclass

from byollm.local.ecs.rollout import backoff_s, next_step, tolerated

UP_FIRST = {"maximumPercent": 200, "minimumHealthyPercent": 100}
DOWN_FIRST = {"maximumPercent": 100, "minimumHealthyPercent": 0}
HALF = {"maximumPercent": 100, "minimumHealthyPercent": 50}


@dataclass(eq=False)
class Task:
    ready: bool = True


def made(count: int, *, ready: bool = True) -> list[Task]:
    return [Task(ready) for _ in range(count)]


def test_new_tasks_come_before_old_ones_go() -> None:
    old = made(2)
    step = next_step(2, UP_FIRST, [], old)
    assert (step.start, step.stop) == (2, [])
    step = next_step(2, UP_FIRST, made(2, ready=False), old)
    assert (step.start, step.stop) == (0, [])
    step = next_step(2, UP_FIRST, [Task(True), Task(False)], old)
    assert (step.start, step.stop) == (0, old[:1])
    step = next_step(2, UP_FIRST, made(2), old)
    assert (step.start, step.stop) == (0, old)


def test_without_room_for_more_old_tasks_go_down_to_the_minimum() -> None:
    old = made(4)
    assert next_step(4, HALF, [], old).stop == old[:2]
    assert next_step(4, HALF, [], old[2:]).start == 2
    assert next_step(1, DOWN_FIRST, [], made(1)).start == 0
    assert len(next_step(1, DOWN_FIRST, [], made(1)).stop) == 1


def test_old_tasks_that_do_not_work_go_at_once() -> None:
    broken = Task(ready=False)
    assert next_step(1, UP_FIRST, [], [broken]).stop == [broken]


def test_fewer_are_reached_by_stopping_those_that_do_not_work_first() -> None:
    tasks = [Task(), Task(ready=False), Task()]
    assert next_step(2, UP_FIRST, tasks, []).stop == [tasks[1]]
    assert next_step(0, UP_FIRST, tasks, []).stop == [tasks[1], tasks[0], tasks[2]]


def test_the_circuit_breaker_takes_half_of_the_tasks_but_at_least_three() -> None:
    assert tolerated(1, {}) == 3
    assert tolerated(25, {}) == 13
    assert tolerated(1000, {}) == 200
    assert tolerated(10, {"thresholdConfiguration": {"type": "COUNT", "value": 5}}) == 5


def test_the_pause_grows_with_the_failures_up_to_five_minutes() -> None:
    assert [backoff_s(failures) for failures in (0, 1, 2, 3, 20)] == [0, 1, 2, 4, 300]
