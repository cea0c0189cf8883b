"""The emulated AWS of this machine, as commands find and use it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import boto3

from byollm.cli.cdk import cdk_command
from byollm.doctor import Patient
from byollm.local.launch import LocalError, Running, tail
from byollm.local.world import ACCESS_KEY, ACCOUNT, SECRET_KEY
from byollm.settings import REPOSITORY

# Of a real account: with one of these set, a client would not take what it is given here.
_OF_ACCOUNTS = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN")


def place(env: str, directory: Path | None) -> Path:
    """Return where the emulated AWS of an environment keeps everything."""
    return (directory or REPOSITORY / "var" / "local" / env).resolve()


def require(env: str, directory: Path | None) -> Running:
    """Return the emulated AWS of an environment.

    Raises:
        LocalError: it is not up.
    """
    running = Running.find(place(env, directory))
    if running is None:
        raise LocalError(f"nothing is up in {place(env, directory)}: `byollm up --env {env}`")
    return running


def become_client(address: str, region: str) -> None:
    """Have every client of AWS in this process, and in those that it starts, speak to that at `address`."""
    for name in _OF_ACCOUNTS:
        os.environ.pop(name, None)
    os.environ.update(
        AWS_ENDPOINT_URL=address,
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_REGION=region,
        AWS_DEFAULT_REGION=region,
        AWS_EC2_METADATA_DISABLED="true",
    )


def client(running: Running, service: str) -> Any:
    """Return boto3's client of `service` there."""
    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=running.region)
    return session.client(service, endpoint_url=running.address)


def bootstrap(patient: Patient, directory: Path) -> None:
    """Prepare every region of the environment for the CDK, where it is not yet.

    Raises:
        LocalError: the CDK fails; what it said is in the message.
    """
    log = directory / "logs" / "bootstrap.log"
    for region in patient.regions:
        cloud = patient.client("cloudformation", region)
        found = [stack["StackName"] for stack in cloud.describe_stacks()["Stacks"]]
        if "CDKToolkit" in found:
            continue
        line = [*cdk_command(), "bootstrap", f"aws://{ACCOUNT}/{region}", "--no-notices"]
        with log.open("ab") as output:
            # In a directory without an app: one would be synthesised for nothing.
            done = subprocess.run(line, cwd=directory, stdout=output, stderr=output, check=False)
        if done.returncode:
            raise LocalError(f"the CDK cannot prepare {region}; the end of {log}:\n{tail(log)}")
