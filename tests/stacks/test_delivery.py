"""A push goes through tests, images, a first environment and people to the environment of the pipeline."""

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from byollm.settings import SettingsError
from tests.stacks.support import ROOT, Synthesis, resolved, synthesise
from tests.stacks.whole import whole_settings

PIPELINE = ROOT / "pipeline"
BUILDSPECS = sorted(path.stem for path in PIPELINE.glob("*.yml"))
# What CodeBuild itself tells a build, and what is everywhere.
GIVEN = {"AWS_REGION", "PWD", "PATH"}


@pytest.fixture
def pipeline(whole: Synthesis) -> Any:
    (found,) = whole.of("delivery", "AWS::CodePipeline::Pipeline").values()
    return found


@pytest.fixture
def projects(whole: Synthesis) -> dict[str, Any]:
    """The projects by their logical ids."""
    return whole.of("delivery", "AWS::CodeBuild::Project")


def actions(pipeline: Any) -> list[tuple[str, Any]]:
    """Every action with the name of its stage, in order."""
    return [(stage["Name"], action) for stage in pipeline["Stages"] for action in stage["Actions"]]


def told(action: Any) -> dict[str, str]:
    variables = json.loads(action["Configuration"].get("EnvironmentVariables", "[]"))
    assert all(each["type"] == "PLAINTEXT" for each in variables)
    return {each["name"]: each["value"] for each in variables}


def project_of(action: Any, projects: dict[str, Any]) -> Any:
    return projects[action["Configuration"]["ProjectName"]["Ref"]]


def test_it_is_there_only_with_a_connection(dev: Synthesis, prod: Synthesis) -> None:
    assert "delivery" not in dev.templates
    assert "delivery" not in prod.templates


def test_a_push_goes_step_by_step(pipeline: Any) -> None:
    assert [(stage, action["Name"]) for stage, action in actions(pipeline)] == [
        ("Source", "Source"),
        ("Test", "Test"),
        ("Update", "Update"),
        ("Images", "Images"),
        ("Images", "Smoke"),
        ("First", "Deploy"),
        ("First", "EndToEnd"),
        ("Approve", "Approve"),
        ("Own", "Promote"),
        ("Own", "Deploy"),
        ("Own", "EndToEnd"),
    ]
    for stage in pipeline["Stages"]:
        orders = [action.get("RunOrder", 1) for action in stage["Actions"]]
        assert orders == list(range(1, len(orders) + 1)), "one after the other"


def test_it_follows_one_branch_over_the_connection(pipeline: Any) -> None:
    source = pipeline["Stages"][0]["Actions"][0]["Configuration"]
    assert source["FullRepositoryId"] == "owner/name"
    assert source["BranchName"] == "main"
    assert ":connection/" in source["ConnectionArn"]


def test_digests_go_onward_and_never_tags(pipeline: Any) -> None:
    digests = {
        f"BYOLLM__IMAGES__{image}": f"#{{Images.{image}}}" for image in ("INFERENCE", "GATEWAY", "FRONTEND")
    }
    after = [action for stage, action in actions(pipeline) if stage in ("First", "Own")]
    for action in after:
        if action["Name"] in ("Deploy", "Promote"):
            assert digests.items() <= told(action).items()
    exported = yaml.safe_load((PIPELINE / "images.yml").read_text())["env"]["exported-variables"]
    assert {f"#{{Images.{name}}}" for name in exported} == set(digests.values())


def test_people_are_asked_before_the_pipelines_own_environment(whole: Synthesis, pipeline: Any) -> None:
    deployed = [
        told(action).get("ENVIRONMENT") for _, action in actions(pipeline) if action["Name"] == "Deploy"
    ]
    assert deployed == ["dev", "whole"]
    (topic,) = whole.of("delivery", "AWS::SNS::Topic").values()
    assert "KmsMasterKeyId" in topic
    (subscription,) = whole.of("delivery", "AWS::SNS::Subscription").values()
    assert subscription["Endpoint"] == "lead@example.org"


def test_it_changes_itself_and_begins_again(pipeline: Any) -> None:
    assert pipeline["RestartExecutionOnUpdate"] is True
    assert pipeline["PipelineType"] == "V2"
    buildspec = (PIPELINE / "update.yml").read_text()
    assert "cdk deploy --require-approval never --exclusively" in buildspec
    assert '"byollm-$ENVIRONMENT-delivery"' in buildspec


def test_what_is_handed_on_is_encrypted(whole: Synthesis, pipeline: Any, projects: dict[str, Any]) -> None:
    assert "Data" in str(pipeline["ArtifactStore"]["EncryptionKey"])
    assert all("Data" in str(project["EncryptionKey"]) for project in projects.values())


def test_the_cuda_image_is_tried_on_a_gpu(projects: dict[str, Any]) -> None:
    on_gpu = [name for name, each in projects.items() if each["Environment"]["Type"] == "LINUX_GPU_CONTAINER"]
    assert on_gpu == ["SmokeBuild"]
    assert "--gpus all" in (PIPELINE / "smoke.yml").read_text()


def test_only_what_needs_docker_is_privileged(projects: dict[str, Any]) -> None:
    privileged = {name for name, each in projects.items() if each["Environment"]["PrivilegedMode"]}
    assert privileged == {"ImagesBuild", "SmokeBuild", "PromoteBuild"}


def test_each_build_has_the_rights_of_its_work_alone(whole: Synthesis) -> None:
    policies = whole.of("delivery", "AWS::IAM::Policy")

    def allowed(start: str) -> dict[str, str]:
        (policy,) = [each for name, each in policies.items() if name.startswith(start)]
        found = {}
        for statement in policy["PolicyDocument"]["Statement"]:
            for action in (
                [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            ):
                resources = statement["Resource"]
                found[action] = " ".join(
                    resolved(each) for each in (resources if isinstance(resources, list) else [resources])
                )
        return found

    work = {"logs:CreateLogStream", "logs:PutLogEvents", "s3:GetObject", "s3:GetObjectVersion", "kms:Decrypt"}
    assert set(allowed("TestRole")) == work
    assert set(allowed("EndToEndRole")) == work
    assert "byollm-dev/inference" in allowed("ImagesRole")["ecr:PutImage"]
    assert "byollm-whole" not in allowed("ImagesRole")["ecr:PutImage"]
    assert "ecr:PutImage" not in allowed("SmokeRole")
    assert "byollm-dev" not in allowed("PromoteRole")["ecr:PutImage"]
    roles = allowed("DeployDevRole")["sts:AssumeRole"]
    assert "cdk-hnb659fds-deploy-role-123456789012-ca-central-1" in roles
    assert "*" not in roles
    for action in ("s3:PutObject", "states:StartExecution", "ecr:BatchGetImage"):
        assert "byollm-dev" in allowed("DeployDevRole")[action]
        assert "byollm-whole" not in allowed("DeployDevRole")[action], "it touches no other environment"
    assert "codeconnections:UseConnection" in allowed("PipelineRole")
    assert "iam:PassRole" not in str(policies)


@pytest.mark.parametrize("name", BUILDSPECS)
def test_every_buildspec_is_used_and_told_all_it_asks_for(
    pipeline: Any, projects: dict[str, Any], name: str
) -> None:
    text = (PIPELINE / f"{name}.yml").read_text()
    spec = yaml.safe_load(text)
    assert spec["version"] == 0.2
    commands = [
        command
        for phase in spec["phases"].values()
        for command in [*phase.get("commands", []), *phase.get("finally", [])]
    ]
    assert all(isinstance(command, str) for command in commands), "a colon made a mapping of a command"
    scripts = {path.name: path.read_text() for path in PIPELINE.iterdir() if not path.suffix}
    called = "\n".join(
        [*commands, *(body for script, body in scripts.items() if f"pipeline/{script}" in text)]
    )
    asked = set(re.findall(r"\$\{?([A-Z][A-Z_]*)", called))
    made = set(re.findall(r"\b([A-Z][A-Z_]*)=", called)) | set(spec.get("env", {}).get("variables", {}))
    users = [
        action
        for _, action in actions(pipeline)
        if action["ActionTypeId"]["Provider"] == "CodeBuild"
        and project_of(action, projects)["Source"]["BuildSpec"] == f"pipeline/{name}.yml"
    ]
    assert users
    for action in users:
        assert asked - made - GIVEN <= set(told(action)), action["Name"]
    checked = subprocess.run(
        ["bash", "-n"], input="\n".join(commands), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("script", sorted(path for path in PIPELINE.iterdir() if not path.suffix))
def test_every_script_is_valid(script: Path) -> None:
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_an_environment_is_not_first_in_its_own_pipeline(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"delivery\.first: dev has the pipeline itself"):
        synthesise("dev", tmp_path, whole_settings())


def test_the_end_to_end_test_waits_for_a_model_that_wakes_and_fails_for_one_that_does_not_answer() -> None:
    awake = iter((503, 200, 200))
    replies = {"/v1/models": {"data": [{"id": "model"}]}}

    class Platform(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, replies.get(self.path, {}))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            delta = {"role": "assistant", "content": "I am."}
            choice = {"index": 0, "message": delta, "delta": delta, "finish_reason": "stop"}
            self.reply(next(awake, 500), {"choices": [choice]}, stream=asked.get("stream", False))

        def reply(self, status: int, body: Any, *, stream: bool = False) -> None:
            text = json.dumps(body)
            self.send_response(status)
            self.send_header("content-type", "text/event-stream" if stream else "application/json")
            self.send_header("retry-after", "0.01")
            self.end_headers()
            self.wfile.write(f"data: {text}\n\ndata: [DONE]\n\n".encode() if stream else text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Platform) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        command = [sys.executable, PIPELINE / "end_to_end.py", address]
        answered = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (answered.returncode, answered.stdout) == (0, f"{address}: model says: I am.\n"), (
            answered.stderr
        )
        awake = iter((400,))
        assert subprocess.run(command, capture_output=True, check=False).returncode == 1
        server.shutdown()
