"""The order of a deployment, and what it does when it was done in part."""

from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws
from typer.testing import CliRunner

from byollm.cli import cdk, doctor, first_chat, images, publish
from byollm.cli.main import app
from byollm.settings import ByollmError
from tests.cli.test_images import registry

DIGEST = "sha256:" + "1" * 64
Steps = list[tuple[str, Any]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """A healthy account; each step of a deployment is noted in place of being taken."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    taken: Steps = []
    monkeypatch.setattr(doctor, "require_health", lambda *_: taken.append(("doctor", None)))
    monkeypatch.setattr(cdk, "run_cdk", lambda *_, variables, **__: taken.append(("stacks", variables)))
    monkeypatch.setattr(
        publish, "publish_model", lambda who, console, digest: taken.append(("model", digest))
    )

    def build(who: object, console: object, wanted: list[str]) -> dict[str, str]:
        taken.append(("images", wanted))
        return dict.fromkeys(wanted, DIGEST)

    monkeypatch.setattr(images, "build_and_push", build)
    monkeypatch.setattr(first_chat, "first_chat", lambda *_: taken.append(("chat", None)))
    with mock_aws():
        yield taken


def deploy(*arguments: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, ["deploy", *arguments], input=typed)


def test_a_first_deployment_makes_the_registry_then_images_then_services_then_the_model(steps: Steps) -> None:
    ran = deploy("--yes")
    assert ran.exit_code == 0, (ran.output, ran.exception)
    assert [name for name, _ in steps] == ["doctor", "stacks", "images", "stacks", "model", "chat"]
    assert steps[1][1] == {}
    assert steps[3][1]["BYOLLM__IMAGES__GATEWAY"] == DIGEST
    assert steps[4][1] == DIGEST


def test_digests_from_a_pipeline_are_deployed_at_once(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    for image in ("INFERENCE", "GATEWAY", "FRONTEND"):
        monkeypatch.setenv(f"BYOLLM__IMAGES__{image}", DIGEST)
    assert deploy("--yes").exit_code == 0
    assert [name for name, _ in steps] == ["doctor", "stacks", "model", "chat"]


def test_services_that_stand_are_deployed_with_their_images_until_there_are_new_ones(steps: Steps) -> None:
    pushed = {image: registry("one", image=image) for image in ("inference", "gateway", "frontend")}
    assert deploy("--yes").exit_code == 0
    assert [name for name, _ in steps] == ["doctor", "stacks", "images", "stacks", "model", "chat"]
    assert steps[1][1]["BYOLLM__IMAGES__GATEWAY"] == pushed["gateway"]
    assert steps[3][1]["BYOLLM__IMAGES__GATEWAY"] == DIGEST


def test_without_building_the_images_of_the_registry_are_taken(steps: Steps) -> None:
    digest = registry("one", image="inference")
    ran = deploy("--yes", "--skip-images")
    assert ran.exit_code == 0, (ran.output, ran.exception)
    assert [name for name, _ in steps] == ["doctor", "stacks", "model", "chat"]
    assert steps[1][1] == {"BYOLLM__IMAGES__INFERENCE": digest}
    assert "no image of gateway, frontend" in ran.output


@pytest.mark.parametrize("typed", ["n\n", ""])
def test_nothing_is_deployed_unless_it_is_wanted(steps: Steps, typed: str) -> None:
    ran = deploy(typed=typed)
    assert ran.exit_code == 1
    assert "account 123456789012" in ran.output
    assert [name for name, _ in steps] == ["doctor"]


def test_what_the_doctor_refuses_is_not_deployed(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise ByollmError("nothing was deployed: put right stacks")

    monkeypatch.setattr(doctor, "require_health", refuses)
    ran = deploy("--yes")
    assert ran.exit_code == 1
    assert steps == []


def test_an_interruption_says_how_to_go_on(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cdk, "run_cdk", interrupted)
    ran = deploy("--yes")
    assert ran.exit_code == 130
    assert "goes on where this ended" in ran.output
