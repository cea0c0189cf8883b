"""ECR's other face: the registry that docker and podman push images to, and pull them from.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md, as far as a push and a pull need it.
What ECR's API tells of images, ministack keeps; the bytes are files here, as large as they like.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import logging
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from byollm.local.blobs import Blobs
from byollm.local.images import know, port_of
from byollm.local.world import World

log = logging.getLogger(__name__)

USER = "AWS"  # whom ECR's authorization tokens are of
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_EVERY = 60  # seconds from one look for what no image has any more to the next
_LARGEST_MANIFEST = 4 * 2**20  # as the specification wants it
# What ECR's errors are called here.
_ERRORS = {
    "RepositoryNotFoundException": (404, "NAME_UNKNOWN"),
    "ImageNotFoundException": (404, "MANIFEST_UNKNOWN"),
    "ImageTagAlreadyExistsException": (400, "TAG_INVALID"),
}


class RegistryError(Exception):
    """Why the registry refuses; told in the specification's words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Registry:
    """Layers and manifests of every repository of ECR.

    Args:
        world: whose ECR knows the repositories and images, and in whose directory the bytes are.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._folder = world.directory / "registry" / "blobs"
        self._blobs = Blobs(self._folder)
        self._uploads = world.directory / "registry" / "uploads"
        self._sweeping: asyncio.Task[None] | None = None
        self._imaging = asyncio.Lock()  # held while images come into being, and while all are looked through
        app = Starlette(
            routes=[
                Route("/v2/", self._hello),
                Route("/v2/{name:path}/blobs/uploads/", self._begin, methods=["POST"]),
                Route("/v2/{name:path}/blobs/uploads/{upload}", self._receive, methods=["PATCH", "PUT"]),
                Route("/v2/{name:path}/blobs/{digest}", self._blob),
                Route("/v2/{name:path}/manifests/{reference}", self._put_manifest, methods=["PUT"]),
                Route("/v2/{name:path}/manifests/{reference}", self._manifest),
            ],
            exception_handlers={RegistryError: _refuse, ClientError: _refuse_as_ecr},
        )
        self.app: ASGIApp = _Guarded(app)

    async def start(self) -> None:
        """Forget uploads that nobody will go on with, and begin to look for what nobody has any more."""
        for folder in (self._folder, self._uploads):
            folder.mkdir(parents=True, exist_ok=True)
        for left in self._uploads.iterdir():
            left.unlink()
        self._sweeping = asyncio.create_task(self._keep_sweeping(), name="sweep the registry")

    async def stop(self) -> None:
        """Look no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])

    async def _keep_sweeping(self) -> None:
        """Remove blobs that no image has. Stacks take repositories along, so no call here tells of that."""
        while True:
            await asyncio.sleep(max(1, _EVERY / self._world.clock.factor))
            if self._blobs:
                try:
                    await self._sweep()
                except (BotoCoreError, ClientError) as error:
                    log.warning("the registry cannot be swept: %s", error)

    async def _sweep(self) -> None:
        async with self._imaging:
            promised = self._blobs.promised()  # before looking: a repository may be made meanwhile
            repositories, had = await asyncio.to_thread(self._had)
            self._blobs.sweep(had, [each for each in promised if each[0] not in repositories])

    def _had(self) -> tuple[set[str], set[str]]:
        """Return the names of all repositories, and the digests of what their images are made of."""
        ecr, digests = self._world.client("ecr"), set[str]()
        pages = ecr.get_paginator("describe_repositories").paginate()
        names = {one["repositoryName"] for page in pages for one in page["repositories"]}
        for name in names:
            try:
                ids = ecr.list_images(repositoryName=name)["imageIds"]
                images = ecr.batch_get_image(repositoryName=name, imageIds=ids)["images"] if ids else []
            except ecr.exceptions.RepositoryNotFoundException:
                continue  # it went meanwhile
            for image in images:
                with suppress(RegistryError):  # of several platforms, each of which is an image of its own
                    digests.update(_blobs_of(image["imageManifest"].encode()))
        return names, digests

    async def _hello(self, request: Request) -> Response:
        return Response("{}", headers={"Docker-Distribution-Api-Version": "registry/2.0"})

    async def _begin(self, request: Request) -> Response:
        name = await self._repository(request)
        mounted = request.query_params.get("mount", "")
        if _DIGEST.fullmatch(mounted) and self._blobs.path(mounted).exists():  # all repositories share them
            self._blobs.promise(name, mounted)
            return _made(f"/v2/{name}/blobs/{mounted}", mounted)
        upload = secrets.token_hex(16)
        (self._uploads / upload).touch()
        return self._going_on(name, upload, 0)

    async def _receive(self, request: Request) -> Response:
        """Append to an upload; with PUT, it is whole, and has the digest that is named."""
        name, upload = await self._repository(request), request.path_params["upload"]
        file = self._uploads / upload
        if not _UPLOAD.fullmatch(upload) or not file.exists():
            raise RegistryError(404, "BLOB_UPLOAD_UNKNOWN", f"no upload {upload} is under way: begin anew")
        with file.open("ab") as to:
            async for part in request.stream():
                await run_in_threadpool(to.write, part)
        if request.method == "PATCH":
            return self._going_on(name, upload, file.stat().st_size)
        wanted = request.query_params.get("digest", "")
        found = await run_in_threadpool(_digest_of, file)
        if wanted != found:
            file.unlink()
            raise RegistryError(400, "DIGEST_INVALID", f"what came is {found}, not {wanted}")
        file.replace(self._blobs.path(found))
        self._blobs.promise(name, found)
        return _made(f"/v2/{name}/blobs/{found}", found)

    async def _blob(self, request: Request) -> Response:
        name, digest = await self._repository(request), request.path_params["digest"]
        if not _DIGEST.fullmatch(digest) or not self._blobs.path(digest).exists():
            raise RegistryError(404, "BLOB_UNKNOWN", f"there is no {digest} here")
        if request.method == "HEAD":  # of an engine that is about to push an image with it
            self._blobs.promise(name, digest)
        return FileResponse(
            self._blobs.path(digest),
            media_type="application/octet-stream",
            headers={"Docker-Content-Digest": digest},
        )

    async def _put_manifest(self, request: Request) -> Response:
        """Keep an image, and have its containers be the engine's that pushed it."""
        name, reference = await self._repository(request), request.path_params["reference"]
        raw = await _body(request)
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        by_tag = not _DIGEST.fullmatch(reference)
        if not by_tag and reference != digest:
            raise RegistryError(400, "DIGEST_INVALID", f"the manifest is {digest}, not {reference}")
        blobs = _blobs_of(raw)
        async with self._imaging:
            for blob in blobs:
                if not self._blobs.path(blob).exists():
                    message = f"{blob} was not pushed before its image"
                    raise RegistryError(404, "MANIFEST_BLOB_UNKNOWN", message)
            there = await self._find(name, reference)
            if there is None or there["imageId"]["imageDigest"] != digest:
                await self._world.call(
                    "ecr",
                    "put_image",
                    repositoryName=name,
                    imageManifest=raw.decode(),
                    imageManifestMediaType=request.headers.get("content-type", ""),
                    **({"imageTag": reference} if by_tag else {}),
                )
            self._blobs.keep_promise(name, blobs)
        # By its tag, under which the engine that pushed it has it; by its digest it would pull it first.
        address = f"localhost:{self._world.port}/{name}{':' if by_tag else '@'}{reference}"
        start = {"image": address, "port": port_of(name)}
        know(self._world.directory, {f"{name}@{digest}": start})
        return _made(f"/v2/{name}/manifests/{digest}", digest)

    async def _manifest(self, request: Request) -> Response:
        name, reference = await self._repository(request), request.path_params["reference"]
        image = await self._find(name, reference)
        if image is None:
            raise RegistryError(404, "MANIFEST_UNKNOWN", f"{name} has no image {reference}")
        return Response(
            image["imageManifest"],
            media_type=image["imageManifestMediaType"],
            headers={"Docker-Content-Digest": image["imageId"]["imageDigest"]},
        )

    async def _find(self, name: str, reference: str) -> dict[str, Any] | None:
        """Return what ECR has under a digest or a tag."""
        key = "imageDigest" if _DIGEST.fullmatch(reference) else "imageTag"
        wanted = [{key: reference}]
        found = await self._world.call("ecr", "batch_get_image", repositoryName=name, imageIds=wanted)
        return next(iter(found["images"]), None)

    async def _repository(self, request: Request) -> str:
        """Return the repository that a request is about.

        Raises:
            ClientError: ECR has none of that name.
        """
        name: str = request.path_params["name"]
        await self._world.call("ecr", "describe_repositories", repositoryNames=[name])
        return name

    @staticmethod
    def _going_on(name: str, upload: str, size: int) -> Response:
        headers = {"Location": f"/v2/{name}/blobs/uploads/{upload}", "Range": f"0-{max(0, size - 1)}"}
        return Response(status_code=202, headers={**headers, "Docker-Upload-UUID": upload})


class _Guarded:
    """Lets in whom ECR gave a token; what the token is does not matter, as nowhere in an emulated AWS."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        app = self._app
        if _user(given) != USER:
            app = _refusal(401, "UNAUTHORIZED", "log in first: aws ecr get-login-password | docker login")
            app.headers["WWW-Authenticate"] = 'Basic realm="ecr"'
        await app(scope, receive, send)


def _user(authorization: bytes) -> str | None:
    kind, _, encoded = authorization.partition(b" ")
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user if kind.lower() == b"basic" and colon and password else None


async def _body(request: Request) -> bytes:
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > _LARGEST_MANIFEST:
            raise RegistryError(413, "MANIFEST_INVALID", f"a manifest has {_LARGEST_MANIFEST} bytes at most")
    return bytes(raw)


def _blobs_of(manifest: bytes) -> list[str]:
    """Return the digests of an image's layers and configuration.

    Raises:
        RegistryError: it is no manifest of one image.
    """
    try:
        read: Any = json.loads(manifest)
        found = [str(part["digest"]) for part in (read["config"], *read["layers"])]
    except (ValueError, KeyError, TypeError) as error:
        message = f"not the manifest of one image ({error!r}): push an image of one platform"
        raise RegistryError(400, "MANIFEST_INVALID", message) from None
    if not all(map(_DIGEST.fullmatch, found)):
        raise RegistryError(400, "MANIFEST_INVALID", "a digest in it is not of sha256")
    return found


def _digest_of(file: Path) -> str:
    with file.open("rb") as opened:
        return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"


def _made(location: str, digest: str) -> Response:
    return Response(status_code=201, headers={"Location": location, "Docker-Content-Digest": digest})


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RegistryError)
    return _refusal(error.status, error.code, str(error))


def _refuse_as_ecr(request: Request, error: Exception) -> Response:
    assert isinstance(error, ClientError)
    told = error.response["Error"]
    status, code = _ERRORS.get(told["Code"], (500, "UNKNOWN"))
    return _refusal(status, code, told["Message"])


def _refusal(status: int, code: str, message: str) -> Response:
    said = json.dumps({"errors": [{"code": code, "message": message}]})
    return Response(said, status, media_type="application/json")
