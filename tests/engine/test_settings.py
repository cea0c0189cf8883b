import pytest
from pydantic import ValidationError

from byollm.settings.engine import EngineSettings


def test_budget_below_the_number_of_sequences_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"max_batch_tokens \(8\) is below max_running \(9\)"):
        EngineSettings(max_batch_tokens=8, max_running=9)
    EngineSettings(max_batch_tokens=9, max_running=9)


def test_cache_has_one_size() -> None:
    with pytest.raises(ValidationError, match="cache_blocks and cache_bytes both set"):
        EngineSettings(cache_blocks=8, cache_bytes=10**6)


@pytest.mark.parametrize(
    "field", ["max_context", "max_running", "max_waiting", "cache_blocks", "cache_bytes", "threads"]
)
def test_sizes_are_positive(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        EngineSettings(**{field: 0})  # type: ignore[arg-type]
