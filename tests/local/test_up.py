"""`byollm up` and `destroy`: the whole app on the emulated AWS, through the real CDK."""

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from byollm.local.launch import Running
from byollm.local.world import ACCESS_KEY, SECRET_KEY
from tests.local import patient
from tests.local.running import free_port
from tests.local.test_launch import ask

QUESTION = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 24}


def byollm(
    *arguments: str, timeout: float = 120, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "byollm", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "COLUMNS": "200", **(variables or {})},
    )


@pytest.mark.timeout(1200)  # 150 s where nothing else runs
def test_the_platform_stands_answers_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    place = ("--directory", str(tmp_path / "aws"))
    try:
        up = byollm("up", *place, "--port", str(free_port()), timeout=1000)
        assert up.returncode == 0, up.stdout + up.stderr
        running = Running.find(tmp_path / "aws")
        assert running is not None
        page = next(line.split()[1] for line in up.stdout.splitlines() if line.startswith("page "))

        assert "<html" in patient.get(page).text
        [model] = patient.get(f"{page}/v1/models", timeout=300).json()["data"]
        asked_by_name = {"model": model["id"], **QUESTION}
        answer = patient.post(f"{page}/v1/chat/completions", json=asked_by_name, timeout=300)
        assert answer.json()["choices"][0]["message"]["content"]
        session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=running.region)
        runtime = session.client("sagemaker-runtime", endpoint_url=running.address)
        place_of = {"EndpointName": "byollm-dev", "InferenceComponentName": "byollm-dev-main"}
        asked = runtime.invoke_endpoint(**place_of, ContentType="application/json", Body=json.dumps(QUESTION))
        assert json.loads(asked["Body"].read())["choices"]

        status, _ = ask("status", *place)
        assert "InService" in status
        assert status.count("_COMPLETE") >= 8
        for name in ("endpoint", "gateway", "frontend", "reconcile", "cloud"):
            said, error = ask("logs", name, *place)
            assert said.strip(), (name, error)

        there = {
            "AWS_ENDPOINT_URL": running.address,
            "AWS_DEFAULT_REGION": running.region,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        listed = subprocess.run(
            [Path(sys.executable).with_name("aws"), "sagemaker", "list-endpoints", "--output", "text"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | there,
        )
        assert "byollm-dev" in listed.stdout
        gone = byollm("destroy", "--env", "dev", "--yes", timeout=600, variables=there)
        assert gone.returncode == 0, gone.stdout + gone.stderr
        assert "Nothing is left of dev that should not be" in gone.stdout
        assert session.client("sagemaker", endpoint_url=running.address).list_models()["Models"] == []
    finally:
        down = byollm("down", *place)
    assert "is down" in down.stdout
    assert byollm("status", *place).returncode == 1
