"""Has CodeBuild build the images of this checkout, for machines without a container engine."""

import hashlib
import subprocess
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from byollm.doctor.patient import Patient
from byollm.settings import ByollmError
from byollm.settings.instances import INSTANCE_TYPES

if TYPE_CHECKING:
    from rich.console import Console

KEY = "images/source.zip"  # where the project looks for it
LOOK_S = 5.0


class RemoteImageError(ByollmError):
    """CodeBuild cannot build the images."""


def build_remotely(patient: Patient, console: "Console", images: Iterable[str]) -> dict[str, str]:
    """Send the checkout to the project `byollm-<env>-images`; return the digests of `images`.

    What git ignores stays here. The same content is the same images: they are not built again.

    Raises:
        RemoteImageError: there is no project, or the build failed; where its log is stands in the message.
    """
    project = f"byollm-{patient.env}-images"
    with TemporaryDirectory() as directory:
        archive = Path(directory) / "source.zip"
        revision = pack(patient.repository, archive)
        console.print(f"sending {archive.stat().st_size / 1e6:.0f} MB to CodeBuild, which builds {project}")
        patient.client("s3").upload_file(str(archive), patient.bucket("Artefacts"), KEY)
    gpu = INSTANCE_TYPES[patient.settings.endpoint.instance_type].gpus
    told = {"ENVIRONMENT": patient.env, "REVISION": revision, "RUNTIME": "cuda" if gpu else "cpu"}
    codebuild = patient.client("codebuild")
    try:
        build = codebuild.start_build(
            projectName=project,
            environmentVariablesOverride=[{"name": name, "value": value} for name, value in told.items()],
        )["build"]
    except codebuild.exceptions.ResourceNotFoundException:
        raise RemoteImageError(
            f"there is no CodeBuild project {project}: where the environment has a pipeline, that builds the "
            "images; run it, then this with --skip-images"
        ) from None
    build = _followed(codebuild, build, console)
    exported = {each["name"]: each["value"] for each in build.get("exportedEnvironmentVariables", ())}
    if missing := [image for image in images if not exported.get(image.upper())]:
        raise RemoteImageError(f"the build told no digest of {', '.join(missing)}: {_log(build)}")
    return {image: exported[image.upper()] for image in images}


def pack(repository: Path, archive: Path) -> str:
    """Write the files of a checkout that git does not ignore into an archive; return what identifies them.

    Raises:
        RemoteImageError: it is no checkout.
    """
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=repository, capture_output=True, check=False)
    if done.returncode:
        raise RemoteImageError(f"{repository} is no git checkout, and what belongs to it is not known")
    content = hashlib.sha256()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(set(done.stdout.decode().split("\0")) - {""}):
            path = repository / name
            if not path.is_file():  # removed, and not yet committed
                continue
            entry = zipfile.ZipInfo(name)  # of 1980: the same content is the same archive
            entry.external_attr = (path.stat().st_mode & 0o777) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            data = path.read_bytes()
            packed.writestr(entry, data)
            content.update(f"{name} {entry.external_attr} {len(data)}\n".encode() + data)
    return content.hexdigest()[:40]


def _followed(codebuild: Any, build: dict[str, Any], console: "Console") -> dict[str, Any]:
    """Show the phases of a build until it has ended well."""
    phase = None
    while build["buildStatus"] == "IN_PROGRESS":
        if build.get("currentPhase") != phase:
            phase = build.get("currentPhase")
            console.print(f"CodeBuild: {str(phase).lower().replace('_', ' ')}")
        time.sleep(LOOK_S)
        build = codebuild.batch_get_builds(ids=[build["id"]])["builds"][0]
    if build["buildStatus"] != "SUCCEEDED":
        why = [
            context["message"]
            for each in build.get("phases", ())
            for context in each.get("contexts", ())
            if context.get("message")
        ]
        raise RemoteImageError(f"the build ended as {build['buildStatus']}: {'; '.join([*why, _log(build)])}")
    return build


def _log(build: dict[str, Any]) -> str:
    logs = build.get("logs", {})
    return f"see the log {logs.get('deepLink') or logs.get('groupName') or build['id']}"
