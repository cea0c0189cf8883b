"""Images for machines without a container engine: a build that fetches the checkout from S3."""

from byollm.settings import load_settings
from stacks.images import ARCHIVE, SOURCE
from tests.stacks.support import Synthesis


def test_a_build_stands_by_where_no_pipeline_builds(synthesis: Synthesis) -> None:
    piped = load_settings(synthesis.env).delivery.connection_arn is not None
    assert ("images" in synthesis.templates) is not piped


def test_it_fetches_one_archive_and_pushes_to_three_repositories(dev: Synthesis) -> None:
    [project] = dev.of("images", "AWS::CodeBuild::Project").values()
    assert project["Name"] == f"byollm-{dev.env}-images"
    assert project["Source"]["Type"] == "S3"
    assert f"/{SOURCE}{ARCHIVE}" in str(project["Source"]["Location"])
    assert project["Artifacts"] == {"Type": "NO_ARTIFACTS"}
    assert project["Environment"]["PrivilegedMode"] is True  # it runs a Docker daemon
