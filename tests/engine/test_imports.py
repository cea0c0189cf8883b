"""What the engine's torch-free half costs to import."""

import subprocess
import sys

import pytest

import byollm.engine

TORCH_FREE = (
    "admission",
    "block_pool",
    "outputs",
    "prefix",
    "request",
    "sampling_params",
    "scheduler",
    "speculation",
    "text_stream",
    "uniform",
)


def test_scheduling_imports_no_torch() -> None:
    lines = [f"import byollm.engine.{module}" for module in TORCH_FREE]
    lines += ["import sys", "print(*sorted({'torch', 'numpy', 'tokenizers'} & set(sys.modules)))"]
    loaded = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def test_public_names_resolve() -> None:
    assert all(getattr(byollm.engine, name) for name in byollm.engine.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = byollm.engine.Nothing
