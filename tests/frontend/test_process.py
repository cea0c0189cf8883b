import socket
import subprocess
import sys

import httpx
import pytest

from frontend.errors import StartError
from frontend.serve import listen
from tests.frontend.support import PATIENCE_S


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "frontend", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_names_the_options() -> None:
    result = run("--help")
    assert result.returncode == 0
    for option in ("--api", "--port", "--host", "--env"):
        assert option in result.stdout


def test_port_that_was_asked_for_and_is_taken_is_refused_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--port", str(port))
    assert result.returncode == 1
    assert f"port {port} is taken" in result.stderr
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr


def test_usual_port_that_is_taken_gives_way_to_the_next() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port, any_port=True) as listener:
            assert port < listener.getsockname()[1] <= port + 20


def test_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0, any_port=False)


def test_address_of_the_model_server_is_checked() -> None:
    result = run("--api", "not an address")
    assert result.returncode == 1
    assert "api" in result.stderr
    assert "not an address" in result.stderr


def test_page_is_served_to_this_machine_only_and_forbids_what_is_not_its_own(page_address: str) -> None:
    response = httpx.get(page_address, trust_env=False, timeout=PATIENCE_S)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1]
    assert 'property="og:' not in response.text
    # a name that someone pointed at this machine is not served
    evil = {"Host": "evil.example"}
    rebound = httpx.get(page_address, headers=evil, trust_env=False, timeout=PATIENCE_S)
    assert rebound.status_code == 400


def test_request_that_is_too_large_is_refused(page_address: str) -> None:
    address = f"{page_address}/gradio_api/queue/join"
    response = httpx.post(address, content=b" " * (8 << 20 | 1), trust_env=False, timeout=PATIENCE_S)
    assert response.status_code == 413


def test_icon_is_our_own(page_address: str) -> None:
    response = httpx.get(f"{page_address}/favicon.ico", trust_env=False, timeout=PATIENCE_S)
    assert response.headers["content-type"].startswith("image/svg+xml")
