"""`byollm config` as people run it."""

import os
import subprocess
import sys

import yaml


def byollm(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "byollm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=False)


def test_show_prints_yaml_with_all_layers() -> None:
    shown = byollm("config", "show", "--env", "dev", BYOLLM__SERVER__PORT="9123")
    assert shown.returncode == 0, shown.stderr
    assert yaml.safe_load(shown.stdout)["server"]["port"] == 9123


def test_show_one_section() -> None:
    assert set(yaml.safe_load(byollm("config", "show", "page").stdout)) == {"page"}
    unknown = byollm("config", "show", "pgae")
    assert unknown.returncode == 1
    assert "no section 'pgae'" in unknown.stderr


def test_a_wrong_setting_is_an_error_without_traceback() -> None:
    wrong = byollm("config", "show", BYOLLM__SERVER__PORT="many")
    assert wrong.returncode == 1
    assert "server.port" in wrong.stderr
    assert "Traceback" not in wrong.stderr
