"""A fleet that cannot be brought up says why, and leaves nothing half done."""

import asyncio
from pathlib import Path

import pytest

from byollm.local.containers import Containers
from byollm.local.sagemaker.fleet import Fleet, FleetError, Yard
from byollm.local.sagemaker.model_files import ModelFiles
from byollm.local.sagemaker.plan import ContainerPlan
from byollm.local.world import World
from tests.local.sagemaker.hosting import IMAGE, write_images


@pytest.mark.parametrize(
    ("image", "blocked", "reason"),
    [(IMAGE, True, "File exists"), ("gone@sha256:1", False, "there is no image gone@sha256:1")],
    ids=["directory that cannot be written", "image that is gone"],
)
def test_a_container_that_cannot_be_started_is_a_reason(
    tmp_path: Path, image: str, blocked: bool, reason: str
) -> None:
    write_images(tmp_path)
    if blocked:
        (tmp_path / "containers").write_text("in the way")
    world = World(tmp_path, 1, "ca-central-1")
    yard = Yard(world, Containers(world), ModelFiles(world))
    plan = ContainerPlan(image=image, environment={})

    async def scenario() -> None:
        fleet = Fleet(yard, plan, group="/g", variant="main", words="variant main", strategy="RANDOM")
        with pytest.raises(FleetError, match=reason):
            await fleet.scale(2)
        assert fleet.ready == []
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())
