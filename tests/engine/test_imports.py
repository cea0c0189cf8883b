"""What the engine's torch-free half costs to import."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    ["block_pool", "scheduler", "request", "sampling_params", "admission", "text_stream", "uniform", "outputs"],
)
def test_scheduling_imports_no_torch(module: str) -> None:
    script = f"import sys, byollm.engine.{module}; print(*({{'torch', 'numpy', 'transformers'}} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_public_names_resolve() -> None:
    import byollm.engine

    assert all(getattr(byollm.engine, name) for name in byollm.engine.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = byollm.engine.Nothing
