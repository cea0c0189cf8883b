"""Training jobs name instance types that exist, and a job on spare capacity may wait for it."""

import pytest
from pydantic import ValidationError

from byollm.settings import JobsSettings


def test_a_job_may_wait_for_spare_capacity_beside_what_it_runs() -> None:
    jobs = JobsSettings(hours=2, spot_wait_hours=1)
    assert (jobs.run_s, jobs.wait_s) == (7200, 10800)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (("ml.g5.2xlarge", "ml.nothing.large"), "unknown ml.nothing.large. Known: ml.c7i"),
        (("ml.g5.2xlarge", "ml.g5.2xlarge"), "name each once"),
    ],
)
def test_instance_types_exist_and_differ(types: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JobsSettings(instance_types=types)
