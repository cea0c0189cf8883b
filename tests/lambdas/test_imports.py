"""The functions need nothing but the standard library, boto3, pydantic, Powertools and their bundle."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HANDLERS = sorted(path.parent.name for path in (ROOT / "lambdas").glob("*/handler.py"))

# What a function does not find on AWS is not found here either.
SCRIPT = """
import importlib, sys

ABSENT = {"aws_cdk", "fastapi", "httpx", "numpy", "rich", "starlette", "tenacity", "torch", "typer", "yaml"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"{name} is not in the functions' bundle")

sys.meta_path.insert(0, Absent())
for name in sys.argv[1:]:
    handler = importlib.import_module(f"lambdas.{name}.handler")
    assert callable(handler.handle), name
ours = {name for name in sys.modules if name.split(".")[0] in ("byollm", "lambdas")}
floors = {".".join(name.split(".")[:2]) for name in ours if name.startswith("byollm.")}
print(*sorted(floors))
"""


Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def loaded() -> Run:
    environment = {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "ca-central-1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *HANDLERS], capture_output=True, text=True, env=environment, cwd="/"
    )


def test_every_handler_is_imported_without_what_the_bundle_lacks(
    loaded: Run,
) -> None:
    assert len(HANDLERS) == 7
    assert loaded.returncode == 0, loaded.stderr


def test_handlers_need_only_the_floors_that_are_bundled(loaded: Run) -> None:
    assert loaded.stdout.split() == ["byollm.aws", "byollm.lifecycle", "byollm.settings"]
