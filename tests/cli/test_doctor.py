"""`byollm doctor` as people and programs run it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

NOWHERE = {"BYOLLM__AWS__ENDPOINT_URL": "http://localhost:1"}
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_MAX_ATTEMPTS": "1"}


def doctor(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "byollm", "doctor", *arguments]
    variables = os.environ | KEYS | {"COLUMNS": "200"} | variables
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False)


@pytest.fixture(scope="module")
def account() -> Iterator[str]:
    """An emulated AWS with nothing in it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://localhost:{port}"
    server.stop()


def by_check(ran: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(ran.stdout)}


def test_without_a_network_each_check_fails_in_words() -> None:
    ran = doctor("--json", **NOWHERE)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    found = by_check(ran)
    for name in ("credentials", "clock", "bootstrap", "stacks", "names", "leftovers"):
        assert found[name]["level"] == "fail"
        assert "cannot be reached" in found[name]["seen"]
    assert found["node"]["level"] == found["model"]["level"] == "pass"


def test_what_keeps_many_checks_from_looking_is_said_once() -> None:
    assert doctor(**NOWHERE).stdout.count("cannot be reached") == 1


def test_an_empty_account_lacks_the_bootstrap_and_says_so(account: str) -> None:
    ran = doctor(BYOLLM__AWS__ENDPOINT_URL=account)
    assert ran.returncode == 1, ran.stderr
    assert "is not prepared for the CDK" in ran.stdout
    assert "cdk bootstrap" in ran.stdout
    assert "docs.aws.amazon.com/cdk/v2/guide/bootstrapping-env.html" in ran.stdout
    assert "ml.g5.4xlarge" in ran.stdout


def test_settings_that_are_refused_are_a_finding_of_their_own() -> None:
    ran = doctor("--json", BYOLLM__ENDPOINT__WEIGHTS_GIB="100")
    assert ran.returncode == 1
    (finding,) = json.loads(ran.stdout)
    assert finding["check"] == "settings"
    assert "100 GiB of weights and 2 GiB to run them are 102 GiB" in finding["seen"]


def test_an_environment_that_does_not_exist_is_refused() -> None:
    ran = doctor("--env", "staging")
    assert ran.returncode == 1
    assert "no environment 'staging'" in ran.stdout
