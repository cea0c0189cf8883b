"""What holds data is never removed or replaced without somebody having decided it."""

import copy

import pytest

from tests.stacks.migration import Baseline, baseline_of, losses, read
from tests.stacks.support import Synthesis

ADVICE = (
    "Keep logical ids and what is settled at creation as they are. Where data has been moved on purpose, "
    "take the entry out of tests/stacks/baseline by hand and say in the commit how."
)


def test_nothing_that_holds_data_is_removed_or_replaced(synthesis: Synthesis) -> None:
    found = losses(read(synthesis.env), baseline_of(synthesis))
    assert not found, "\n".join([*found, ADVICE])


def test_all_that_holds_data_is_in_the_baseline(synthesis: Synthesis) -> None:
    new = baseline_of(synthesis).keys() - read(synthesis.env).keys()
    assert not new, f"not in the baseline yet (make snapshots adds it): {', '.join(sorted(new))}"


@pytest.fixture
def now(prod: Synthesis) -> Baseline:
    return copy.deepcopy(baseline_of(prod))


def a(kind: str, baseline: Baseline) -> str:
    return next(name for name, entry in baseline.items() if entry["type"].endswith(kind))


def test_a_removed_table_is_a_loss(prod: Synthesis, now: Baseline) -> None:
    table = a("Table", now)
    del now[table]
    assert losses(baseline_of(prod), now) == [f"{table} (AWS::DynamoDB::Table) would be removed"]


def test_another_key_of_a_table_is_a_loss(prod: Synthesis, now: Baseline) -> None:
    table = a("Table", now)
    now[table]["settled"]["KeySchema"][0]["AttributeName"] = "other"
    (loss,) = losses(baseline_of(prod), now)
    assert "would be replaced: KeySchema" in loss


def test_a_bucket_that_gets_a_name_is_a_loss(prod: Synthesis, now: Baseline) -> None:
    bucket = next(name for name in now if name.startswith("storage/Models"))
    now[bucket]["settled"]["BucketName"] = "mine"
    (loss,) = losses(baseline_of(prod), now)
    assert "would be replaced: BucketName" in loss
