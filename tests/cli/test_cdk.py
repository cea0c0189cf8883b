"""The CDK's command line as a child."""

import json
from pathlib import Path

import pytest

from byollm.cli.cdk import CdkError, cdk_command, run_cdk
from byollm.settings import AwsSettings

SCRIPT = """
const {writeFileSync} = require('fs');
writeFileSync('seen.json', JSON.stringify({arguments: process.argv.slice(2), env: process.env}));
console.log('as it comes');
process.exit(Number(process.env.STATUS || 0));
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    script = tmp_path / "node_modules" / "aws-cdk" / "bin" / "cdk"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)
    return tmp_path


def test_it_runs_on_the_app_of_the_environment_and_shows_its_output(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    aws = AwsSettings(endpoint_url="http://localhost:1", region="eu-west-1")
    run_cdk("deploy", "--all", env="dev", aws=aws, variables={"MORE": "1"}, repository=checkout)
    assert "as it comes" in capfd.readouterr().out
    seen = json.loads((checkout / "seen.json").read_text())
    assert seen["arguments"][:2] == ["deploy", "--all"]
    assert "env=dev" in seen["arguments"]
    assert seen["env"]["AWS_ENDPOINT_URL"] == "http://localhost:1"
    assert seen["env"]["AWS_REGION"] == "eu-west-1"
    assert seen["env"]["MORE"] == "1"


def test_its_failure_is_ours(checkout: Path) -> None:
    with pytest.raises(CdkError, match=r"cdk deploy failed \(status 3\)"):
        run_cdk("deploy", env="dev", aws=AwsSettings(), variables={"STATUS": "3"}, repository=checkout)


def test_a_checkout_without_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CdkError, match="run `make node_modules`"):
        cdk_command(tmp_path)


def test_no_node_says_how_to_get_it(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(CdkError, match="Node is missing"):
        cdk_command(checkout)
