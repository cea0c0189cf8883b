"""The templates as they were last committed; `python -m tests.stacks.snapshots` commits to new ones."""

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.stacks import migration
from tests.stacks.support import ENVIRONMENTS, Synthesis, synthesise

SNAPSHOTS = Path(__file__).with_name("snapshots")


def read(env: str) -> dict[str, Any]:
    """Read the committed templates of one environment, by the stack's role."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((SNAPSHOTS / env).glob("*.json"))}


def write(synthesis: Synthesis) -> None:
    """Replace the committed templates of one environment."""
    folder = SNAPSHOTS / synthesis.env
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for role, template in synthesis.templates.items():
        (folder / f"{role}.json").write_text(json.dumps(template, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Write the snapshots of every environment, and add what holds data to the baseline."""
    for env in ENVIRONMENTS:
        with tempfile.TemporaryDirectory() as directory:
            synthesis = synthesise(env, Path(directory))
        write(synthesis)
        migration.add(env, migration.baseline_of(synthesis))


if __name__ == "__main__":
    main()
