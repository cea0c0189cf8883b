"""The versions on this machine, real ones and planted ones."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from byollm.doctor import Level, Patient
from byollm.doctor.tools import SCHEMA, cdk, node, sdk
from byollm.settings.instances import HOST_IMAGES
from tests.doctor.support import found, only, patient


def test_this_machines_node_passes() -> None:
    only(found(node, patient()), Level.PASS, "Node v")


@pytest.mark.parametrize(("says", "words"), [("v16.20.0", "v16.20.0"), ("hello", "hello")])
def test_an_old_node_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, words: str) -> None:
    _plant_node(tmp_path, monkeypatch, f"echo {says}")
    only(found(node, patient()), Level.FAIL, words)


def test_a_node_that_does_not_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plant_node(tmp_path, monkeypatch, "exit 1")
    only(found(node, patient()), Level.FAIL, "does not run")


def test_no_node_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    only(found(node, patient()), Level.FAIL, "missing")


def test_a_command_line_that_reads_what_the_library_writes_passes(tmp_path: Path) -> None:
    only(found(cdk, checkout(tmp_path)), Level.PASS, "2.1148.1")


@pytest.mark.parametrize(
    ("installed", "schema", "words"),
    [("1.0.0", ">=99.0.0", "package.json pins 2.1148.1"), ("2.1148.1", ">=1.0.0", "schema")],
)
def test_a_command_line_that_is_another_or_too_old_fails(
    tmp_path: Path, installed: str, schema: str, words: str
) -> None:
    only(found(cdk, checkout(tmp_path, installed, schema)), Level.FAIL, words)


def test_no_command_line_fails(tmp_path: Path) -> None:
    who = checkout(tmp_path)
    (tmp_path / "node_modules" / "aws-cdk" / "package.json").unlink()
    finding = only(found(cdk, who), Level.FAIL, "not installed")
    assert "make node_modules" in finding.remedy


def test_an_sdk_that_knows_the_host_image_passes() -> None:
    only(found(sdk, patient()), Level.PASS, "boto3")


def test_an_sdk_older_than_the_host_image_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HOST_IMAGES, "al2030-gpu-9", (13, 0))
    only(found(sdk, patient(endpoint={"host_image": "al2030-gpu-9"})), Level.FAIL, "al2030-gpu-9")


def checkout(at: Path, installed: str = "2.1148.1", schema: str = ">=99.0.0") -> Patient:
    (at / "package.json").write_text(json.dumps({"devDependencies": {"aws-cdk": "2.1148.1"}}))
    package = at / "node_modules" / "aws-cdk" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text(json.dumps({"version": installed, "devDependencies": {SCHEMA: schema}}))
    return replace(patient(), repository=at)


def _plant_node(at: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (at / "node").write_text(f"#!/bin/sh\n{script}\n")
    (at / "node").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(at / "python"))
