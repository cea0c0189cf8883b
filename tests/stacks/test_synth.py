"""A synth is the same wherever and whenever it runs, and refuses what the checks find."""

import json
from pathlib import Path

import pytest

from byollm.settings import load_settings
from stacks.platform import add_platform
from tests.stacks.support import ROOT, Synthesis, new_app, synthesise

from aws_cdk import Stack, aws_kms as kms, aws_s3 as s3  # isort: skip


def test_the_same_settings_give_the_same_bytes(dev: Synthesis, tmp_path: Path) -> None:
    synthesise("dev", tmp_path)
    names = sorted(path.name for path in dev.directory.glob("*.template.json"))
    assert names == sorted(path.name for path in tmp_path.glob("*.template.json"))
    for name in [*names, "manifest.json"]:
        assert (tmp_path / name).read_bytes() == (dev.directory / name).read_bytes(), name


def test_nothing_is_looked_up_in_an_account(any_synthesis: Synthesis) -> None:
    manifest = json.loads((any_synthesis.directory / "manifest.json").read_text())
    assert manifest.get("missing") in (None, [])
    assert not (ROOT / "cdk.context.json").exists(), (
        "a look-up has left its answer: take it from the settings"
    )


def test_nothing_is_warned_of(any_synthesis: Synthesis) -> None:
    # What `cdk synth --strict` would fail on.
    plugins = json.loads(report(any_synthesis.directory))["pluginReports"]
    assert [plugin["violations"] for plugin in plugins if plugin["violations"]] == []


def report(directory: Path) -> str:
    return (directory / "validation-report.json").read_text()


def test_an_unaccepted_finding_and_what_cloudformation_would_refuse_stop_the_synth(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    add_platform(app, env="dev", settings=load_settings("dev"))
    careless = Stack(app, "careless")
    s3.Bucket(careless, "Bucket", enforce_ssl=True)
    alias = kms.CfnAlias(careless, "Alias", alias_name="alias/a", target_key_id="b")
    alias.add_property_override("Colour", "red")
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    assert "AwsSolutions-S1" in report(tmp_path)  # no access log
    assert "Colour" in report(tmp_path)
