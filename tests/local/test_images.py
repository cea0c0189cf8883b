"""The images of this checkout, as processes."""

import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from byollm.local.images import IMAGES, digests_now, push_images, write_images
from tests.local.running import Platform


def test_what_they_are_is_written_and_what_they_were_is_kept(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_text('{"byollm-dev/gateway@sha256:old": ["old"]}')
    digests = digests_now()
    write_images(tmp_path, "dev", digests)
    known = json.loads((tmp_path / "images.json").read_text())
    assert known["byollm-dev/gateway@sha256:old"] == ["old"]
    assert known[f"byollm-dev/frontend@{digests['frontend']}"]["port"] == "BYOLLM__PAGE__PORT"
    assert digests_now() == digests


def test_they_are_pushed_once_and_found_by_their_digests(platform: Platform) -> None:
    registry = platform.client("ecr")
    for name in IMAGES:
        registry.create_repository(repositoryName=f"byollm-push/{name}", imageTagMutability="IMMUTABLE")
    assert push_images(registry, "push") == list(IMAGES)
    assert push_images(registry, "push") == []
    digest = IMAGES["gateway"].digest()
    key = {"repositoryName": "byollm-push/gateway", "imageIds": [{"imageDigest": digest}]}
    [found] = registry.describe_images(**key)["imageDetails"]
    assert found["imageTags"] == [digest.removeprefix("sha256:")[:12]]


def test_an_image_that_is_not_there_is_an_error(platform: Platform) -> None:
    registry = platform.client("ecr")
    registry.create_repository(repositoryName="empty")
    with pytest.raises(ClientError) as error:
        registry.describe_images(repositoryName="empty", imageIds=[{"imageTag": "missing"}])
    assert error.value.response["Error"]["Code"] == "ImageNotFoundException"
