"""The question at the end of a deployment, over real HTTP."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from moto import mock_aws
from rich.console import Console

from byollm.cli import first_chat
from byollm.cli.first_chat import FirstChatError
from byollm.doctor import Patient
from tests.doctor.support import patient

ANSWERS = {
    "/": (200, {}),
    "/v1/models": (200, {"data": [{"id": "mine"}]}),
    "/v1/chat/completions": (200, {"choices": [{"message": {"content": "I am byollm."}}]}),
}


class Balancer:
    """What stands at the address: for each path its answers, one after the other, the last for good."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, Any]]] = {path: [each] for path, each in ANSWERS.items()}
        self.asked: list[Any] = []
        balancer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                queue = balancer.answers[self.path]
                status, said = queue.pop(0) if len(queue) > 1 else queue[0]
                content = json.dumps(said).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "https://login.example/")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                balancer.asked.append(json.loads(self.rfile.read(size)))
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def balancer() -> Iterator[Balancer]:
    balancer = Balancer()
    yield balancer
    balancer.server.shutdown()


@pytest.fixture
def who(balancer: Balancer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    monkeypatch.setattr(first_chat, "PAUSE_S", 0.0)
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"Address": {"Value": balancer.address}},
    }
    with mock_aws():
        cloud = boto3.client("cloudformation", region_name="ca-central-1")
        cloud.create_stack(StackName="byollm-dev-services", TemplateBody=json.dumps(template))
        yield replace(patient())


def said_by(who: Patient, patience_s: float = 60) -> str:
    console = Console(record=True, width=200, stderr=True)
    first_chat.first_chat(who, console, patience_s)
    return console.export_text()


def test_the_answer_is_shown_once_all_has_woken(who: Patient, balancer: Balancer) -> None:
    balancer.answers["/v1/models"].insert(0, (503, {"error": "starting"}))
    balancer.answers["/v1/chat/completions"].insert(0, (503, {"error": "asleep"}))
    assert "Who are you? I am byollm." in said_by(who)
    assert balancer.asked[-1]["model"] == "mine"


@pytest.mark.parametrize("status", [302, 401])
def test_a_login_in_front_is_enough(who: Patient, balancer: Balancer, status: int) -> None:
    balancer.answers["/"] = [(status, {})]
    assert "a login stands in front" in said_by(who)
    assert not balancer.asked


def test_a_refusal_is_told(who: Patient, balancer: Balancer) -> None:
    balancer.answers["/v1/chat/completions"] = [(403, {"error": "blocked by the firewall"})]
    with pytest.raises(FirstChatError, match=r"refuses: 403 .*blocked by the firewall"):
        said_by(who)


def test_what_stays_silent_is_told_where_to_look(who: Patient, balancer: Balancer) -> None:
    balancer.answers["/"] = [(502, {"error": "bad gateway"})]
    with pytest.raises(FirstChatError, match=r"does not answer: 502 .*docs/troubleshooting\.md"):
        said_by(who, patience_s=0)


def test_an_environment_without_services_has_nobody_to_ask() -> None:
    with mock_aws():
        assert "nothing to ask" in said_by(patient())
