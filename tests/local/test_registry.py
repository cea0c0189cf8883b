"""Container engines push images to the emulated ECR, and pull them from it."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.local import patient
from tests.local.running import Platform, eventually

NAME = "byollm-registry/gateway"
MEDIA = "application/vnd.oci.image.manifest.v1+json"
LAYER, CONFIG = b"a layer" * 1000, b'{"architecture": "amd64", "os": "linux"}'


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest(*layers: bytes) -> bytes:
    parts = [{"mediaType": "any", "digest": digest_of(part), "size": len(part)} for part in (CONFIG, *layers)]
    return json.dumps(
        {"schemaVersion": 2, "mediaType": MEDIA, "config": parts[0], "layers": parts[1:]}
    ).encode()


@pytest.fixture(scope="module")
def repository(platform: Platform) -> str:
    made = platform.client("ecr").create_repository(repositoryName=NAME, imageTagMutability="IMMUTABLE")
    uri: str = made["repository"]["repositoryUri"]
    return uri


@pytest.fixture
def http(platform: Platform, repository: str) -> Iterator[httpx.Client]:
    token = platform.client("ecr").get_authorization_token()["authorizationData"][0]
    headers = {"Authorization": f"Basic {token['authorizationToken']}"}
    with httpx.Client(
        base_url=token["proxyEndpoint"], headers=headers, timeout=60, trust_env=False
    ) as client:
        yield client


def push(http: httpx.Client, content: bytes, digest: str | None = None) -> httpx.Response:
    """Push a blob in two pieces, as engines do."""
    place = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    half = len(content) // 2
    went_on = http.patch(place, content=content[:half])
    assert (went_on.status_code, went_on.headers["Range"]) == (202, f"0-{half - 1}")
    return http.put(place, content=content[half:], params={"digest": digest or digest_of(content)})


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def test_what_is_pushed_can_be_pulled_and_ecr_and_containers_know_it(
    http: httpx.Client, platform: Platform
) -> None:
    for content in (LAYER, CONFIG):
        assert push(http, content).status_code == 201
    raw = manifest(LAYER)
    put = http.put(f"/v2/{NAME}/manifests/one", content=raw, headers={"Content-Type": MEDIA})
    assert put.status_code == 201, put.text
    digest = put.headers["Docker-Content-Digest"]
    assert digest == digest_of(raw)
    for reference in ("one", digest):
        pulled = http.get(f"/v2/{NAME}/manifests/{reference}")
        assert (pulled.content, pulled.headers["Content-Type"]) == (raw, MEDIA)
    assert http.get(f"/v2/{NAME}/blobs/{digest_of(LAYER)}").content == LAYER
    [known] = platform.client("ecr").describe_images(repositoryName=NAME)["imageDetails"]
    assert (known["imageDigest"], known["imageTags"]) == (digest, ["one"])
    images = json.loads((platform.directory / "images.json").read_text())
    assert images[f"{NAME}@{digest}"]["image"] == f"localhost:{platform.port}/{NAME}:one"
    assert images[f"{NAME}@{digest}"]["port"] == "BYOLLM__GATEWAY__PORT"
    again = http.put(f"/v2/{NAME}/manifests/one", content=raw, headers={"Content-Type": MEDIA})
    assert again.status_code == 201
    other = http.put(f"/v2/{NAME}/manifests/one", content=manifest(), headers={"Content-Type": MEDIA})
    assert code(other) == (400, "TAG_INVALID")


def test_what_is_wrong_is_refused_in_the_words_of_the_specification(http: httpx.Client) -> None:
    assert code(push(http, b"one thing", digest_of(b"another"))) == (400, "DIGEST_INVALID")
    assert code(http.get(f"/v2/{NAME}/blobs/{digest_of(b'?')}")) == (404, "BLOB_UNKNOWN")
    assert http.get(f"/v2/{NAME}/blobs/..%2F..%2F..%2Fimages.json").status_code == 404
    assert code(http.get(f"/v2/{NAME}/manifests/none")) == (404, "MANIFEST_UNKNOWN")
    assert code(http.post("/v2/nobody/has/it/blobs/uploads/")) == (404, "NAME_UNKNOWN")
    assert code(http.patch(f"/v2/{NAME}/blobs/uploads/{'0' * 32}")) == (404, "BLOB_UPLOAD_UNKNOWN")
    for raw, wanted in (
        (b"[]", (400, "MANIFEST_INVALID")),
        (manifest(b"never pushed"), (404, "MANIFEST_BLOB_UNKNOWN")),
    ):
        assert code(http.put(f"/v2/{NAME}/manifests/two", content=raw)) == wanted


def test_nobody_comes_in_without_logging_in(http: httpx.Client) -> None:
    for given in ("", "Basic AWS", "Basic !", "Bearer QVdTOnRva2Vu", "Basic cm9vdDpyb290"):
        refused = patient.get(http.base_url.join("/v2/"), headers={"Authorization": given}, trust_env=False)
        assert code(refused) == (401, "UNAUTHORIZED")
        assert refused.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.skipif(not shutil.which("podman"), reason="needs podman, which builds and pushes images")
def test_podman_builds_pushes_and_pulls_an_image(
    http: httpx.Client, platform: Platform, repository: str, tmp_path: Path
) -> None:
    def podman(*line: str, given: str | None = None) -> str:
        ran = subprocess.run(["podman", *line], input=given, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY hello /\n")
    (tmp_path / "hello").write_text("hello\n" * 100_000)
    image, insecure = f"{repository}:podman", "--tls-verify=false"
    try:
        podman("build", "--quiet", "--tag", image, str(tmp_path))
        login = ("login", insecure, "--authfile", str(tmp_path / "auth.json"))
        podman(*login, "--username", "AWS", "--password-stdin", str(http.base_url), given="token")
        podman("push", insecure, "--quiet", "--authfile", str(tmp_path / "auth.json"), image)
        podman("rmi", "--force", image)
        podman("pull", insecure, "--quiet", "--authfile", str(tmp_path / "auth.json"), image)
    finally:
        subprocess.run(["podman", "rmi", "--force", image], capture_output=True, check=False)
    wanted = {"repositoryName": NAME, "imageIds": [{"imageTag": "podman"}]}
    assert platform.client("ecr").describe_images(**wanted)["imageDetails"]


def test_what_no_image_has_any_more_goes_and_what_is_being_pushed_stays(
    http: httpx.Client, platform: Platform
) -> None:
    shared, lone, coming = b"of two images" * 10, b"of one" * 10, b"of an image to come" * 10
    for content in (CONFIG, shared, lone, coming):
        push(http, content)
    for tag, raw in (("both", manifest(shared)), ("alone", manifest(shared, lone))):
        headers = {"Content-Type": MEDIA}
        assert http.put(f"/v2/{NAME}/manifests/{tag}", content=raw, headers=headers).status_code == 201
    deleted = {"repositoryName": NAME, "imageIds": [{"imageTag": "alone"}]}
    platform.client("ecr").batch_delete_image(**deleted)
    blobs = platform.directory / "registry" / "blobs"
    place = {
        content: blobs / digest_of(content).removeprefix("sha256:") for content in (shared, lone, coming)
    }
    eventually(lambda: not place[lone].exists())
    assert place[shared].exists()
    assert place[coming].exists()
    late = http.put(f"/v2/{NAME}/manifests/late", content=manifest(coming), headers={"Content-Type": MEDIA})
    assert late.status_code == 201
    for content in (shared, coming):
        assert http.get(f"/v2/{NAME}/blobs/{digest_of(content)}").content == content


def test_a_repository_that_goes_takes_its_images_along(http: httpx.Client, platform: Platform) -> None:
    registry = platform.client("ecr")
    registry.delete_repository(repositoryName=NAME, force=True)
    assert code(http.get(f"/v2/{NAME}/manifests/one")) == (404, "NAME_UNKNOWN")
    with pytest.raises(ClientError):
        registry.describe_images(repositoryName=NAME)
    eventually(lambda: not any((platform.directory / "registry" / "blobs").iterdir()))
