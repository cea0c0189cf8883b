"""The images of this checkout, as processes."""

import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from byollm.local.images import IMAGES, digest, manifests_now, push_images, write_images
from tests.local.running import Platform


def test_what_they_are_is_written_and_what_they_were_is_kept(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_text('{"byollm-dev/gateway@sha256:old": ["old"]}')
    digests = {name: digest(manifest) for name, manifest in manifests_now().items()}
    write_images(tmp_path, "dev", digests)
    known = json.loads((tmp_path / "images.json").read_text())
    assert known["byollm-dev/gateway@sha256:old"] == ["old"]
    assert known[f"byollm-dev/frontend@{digests['frontend']}"]["port"] == "BYOLLM__PAGE__PORT"
    assert {name: digest(manifest) for name, manifest in manifests_now().items()} == digests


def test_they_are_pushed_once_and_found_by_their_digests(platform: Platform) -> None:
    registry = platform.client("ecr")
    for name in IMAGES:
        registry.create_repository(repositoryName=f"byollm-push/{name}", imageTagMutability="IMMUTABLE")
    # Code that has changed since is another image: what is pushed is what is named.
    manifests = {
        name: manifest.replace("byollm.code", "byollm.then") for name, manifest in manifests_now().items()
    }
    assert push_images(registry, "push", manifests) == list(IMAGES)
    assert push_images(registry, "push", manifests) == []
    known_by = digest(manifests["gateway"])
    key = {"repositoryName": "byollm-push/gateway", "imageIds": [{"imageDigest": known_by}]}
    [found] = registry.describe_images(**key)["imageDetails"]
    assert found["imageTags"] == [known_by.removeprefix("sha256:")[:12]]


def test_an_image_that_is_not_there_is_an_error(platform: Platform) -> None:
    registry = platform.client("ecr")
    registry.create_repository(repositoryName="empty")
    with pytest.raises(ClientError) as error:
        registry.describe_images(repositoryName="empty", imageIds=[{"imageTag": "missing"}])
    assert error.value.response["Error"]["Code"] == "ImageNotFoundException"
