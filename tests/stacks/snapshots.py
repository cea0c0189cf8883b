"""The templates as they were last committed; `python -m tests.stacks.snapshots` commits to new ones."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from tests.stacks import migration
from tests.stacks.support import ENVIRONMENTS, Synthesis, synthesise
from tests.stacks.whole import synthesise_whole

SNAPSHOTS = Path(__file__).with_name("snapshots")


def masked(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template without the hashes of its assets: a change of code is no change of the platform."""
    text = re.sub(r"[0-9a-f]{64}\.(zip|json)", r"<asset>.\1", json.dumps(template))
    masked: dict[str, Any] = json.loads(text)
    return masked


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
        (folder / f"{role}.json").write_text(json.dumps(masked(template), indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Write the snapshots, add what holds data to the baseline, draw the documents anew."""
    for env in ENVIRONMENTS:
        with tempfile.TemporaryDirectory() as directory:
            synthesis = synthesise(env, Path(directory))
        write(synthesis)
        migration.add(env, migration.baseline_of(synthesis))
    with tempfile.TemporaryDirectory() as directory:
        write(synthesise_whole(Path(directory)))
    # Read when they are written: from here on they show what is committed to.
    from tests.stacks import drawings

    drawings.write()


if __name__ == "__main__":
    main()
