"""A corpus, and settings small enough for tests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from byollm.settings.data import DataSettings
from tests.data.support import prose


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file under the test's directory."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., DataSettings]:
    """Make settings that read and write under the test's directory."""

    def settings(sources: Sequence[dict[str, Any] | str] = ("text.txt",), **values: Any) -> DataSettings:
        listed = [{"path": source} if isinstance(source, str) else source for source in sources]
        defaults = {"directory": tmp_path, "output": tmp_path / "out", "vocab_size": 300, "conversations": []}
        return DataSettings.model_validate(defaults | {"sources": listed} | values)

    return settings


@pytest.fixture
def corpus(write: Callable[[str, str | bytes], Path]) -> Path:
    """Two hundred documents between blank lines."""
    return write("text.txt", "\n\n".join(f"Document {number}\n{prose(number)}" for number in range(200)))
