"""What this machine deploys with: Node, the CDK's command line and library, the AWS SDK."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from byollm.doctor.finding import Finding, failed, passed
from byollm.doctor.patient import Patient

OLDEST_NODE = 20
SCHEMA = "@aws-cdk/cloud-assembly-schema"
INSTALL = "Run `make node_modules`"
CDK_PAGE = "https://docs.aws.amazon.com/cdk/v2/guide/versioning.html"


def node(patient: Patient) -> Iterator[Finding]:
    """Node runs, and is new enough for the CDK."""
    path = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    if path is None:
        yield failed("Node is missing", f"{INSTALL}, or pip install 'byollm[cdk]'", CDK_PAGE)
        return
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        yield failed(f"{path} does not run: {error}", INSTALL, CDK_PAGE)
        return
    found = re.match(r"v(\d+)\.", said.stdout)
    if found is None or int(found[1]) < OLDEST_NODE:
        yield failed(
            f"Node {said.stdout.strip()} at {path}; {OLDEST_NODE} or newer is needed", INSTALL, CDK_PAGE
        )
    else:
        yield passed(f"Node {said.stdout.strip()}")


def cdk(patient: Patient) -> Iterator[Finding]:
    """The CDK's command line is the pinned one, and reads what the installed library writes."""
    pinned = _json(patient.repository / "package.json")["devDependencies"]["aws-cdk"]
    try:
        cli = _json(patient.repository / "node_modules" / "aws-cdk" / "package.json")
        library = version("aws-cdk-lib")
        writes = version("aws-cdk.cloud-assembly-schema")
    except FileNotFoundError:
        yield failed("the CDK's command line is not installed", INSTALL, CDK_PAGE)
        return
    except PackageNotFoundError as missing:
        yield failed(f"{missing.name} is not installed", "pip install 'byollm[cdk]'", CDK_PAGE)
        return
    reads = cli["devDependencies"][SCHEMA].lstrip("^>=~ ")
    if cli["version"] != pinned:
        yield failed(
            f"its command line is {cli['version']}, and package.json pins {pinned}", INSTALL, CDK_PAGE
        )
    elif _major(writes) > _major(reads):
        yield failed(
            f"aws-cdk-lib {library} writes cloud assemblies of schema {writes}, and the command line "
            f"{cli['version']} reads {reads}",
            "Raise aws-cdk in package.json, then `make node_modules`",
            CDK_PAGE,
        )
    else:
        yield passed(f"command line {cli['version']}, library {library}")


def sdk(patient: Patient) -> Iterator[Finding]:
    """The AWS SDK knows the host image that the settings name: an older one would refuse it."""
    image = patient.settings.endpoint.host_image
    model = patient.client("sagemaker").meta.service_model
    known = model.shape_for("ProductionVariantInferenceAmiVersion").enum
    found = f"boto3 {version('boto3')}"
    if image is not None and image not in known:
        yield failed(
            f"{found} does not know the host image {image}",
            "pip install --upgrade boto3, or choose another endpoint.host_image",
            "https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html",
        )
    else:
        yield passed(found)


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _major(number: str) -> int:
    return int(number.split(".")[0])
