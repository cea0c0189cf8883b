"""An account in memory with a registry and a topic beside the endpoint, and what calls functions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.lifecycle.fake import ARN, FakeAws
from tests.lifecycle.fake_scaling import NOW

FUNCTION = "arn:aws:lambda:ca-central-1:123456789012:function:byollm-dev-function"


class Account(FakeAws):
    """What functions call."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[str, Any] = {}
        self.said: list[tuple[str, str]] = []
        self.invoked: list[dict[str, Any]] = []

    def CreateModelPackage(
        self, ModelPackageGroupName: str, ClientToken: str = "", **given: Any
    ) -> dict[str, Any]:
        arn = f"{ARN}model-package/{ModelPackageGroupName}/{len(self.versions) + 1}"
        self.versions[arn] = {
            **given,
            "ModelPackageArn": arn,
            "ModelPackageVersion": len(self.versions) + 1,
            "ModelPackageName": "byollm-dev",
            "ModelPackageStatus": "Completed",
            "CreationTime": NOW,
        }
        return {"ModelPackageArn": arn}

    def DescribeModelPackage(self, ModelPackageName: str) -> dict[str, Any]:
        found = self._get(self.versions, ModelPackageName, "model package")
        return {**found, "ModelPackageStatusDetails": {"ValidationStatuses": []}}

    def ListModelPackages(self, ModelApprovalStatus: str | None = None, **_: Any) -> dict[str, Any]:
        return {
            "ModelPackageSummaryList": [
                {
                    key: value
                    for key, value in one.items()
                    if key not in ("InferenceSpecification", "ApprovalDescription")
                }
                for one in self.versions.values()
                if ModelApprovalStatus in (None, one["ModelApprovalStatus"])
            ]
        }

    def UpdateModelPackage(self, ModelPackageArn: str, **given: Any) -> dict[str, Any]:
        self._get(self.versions, ModelPackageArn, "model package").update(given)
        return {"ModelPackageArn": ModelPackageArn}

    def UpdateInferenceComponentRuntimeConfig(
        self, InferenceComponentName: str, DesiredRuntimeConfig: Any
    ) -> dict[str, Any]:
        component = self.components[InferenceComponentName]
        component["RuntimeConfig"] = {"DesiredCopyCount": DesiredRuntimeConfig["CopyCount"]}
        return {"InferenceComponentArn": component["InferenceComponentArn"]}

    def Publish(self, TopicArn: str, Subject: str, Message: str) -> dict[str, Any]:
        self.said.append((Subject, Message))
        return {"MessageId": "1"}

    def Invoke(self, FunctionName: str, InvocationType: str, Payload: Any) -> dict[str, Any]:
        self.invoked.append({"function": FunctionName, "type": InvocationType, "payload": Payload})
        return {"StatusCode": 202}


class Context:
    """What Lambda tells a function of its run."""

    function_name = "byollm-dev-function"
    memory_limit_in_mb = 512
    invoked_function_arn = FUNCTION
    aws_request_id = "1"

    def __init__(self, left_s: float = 900) -> None:
        self._left_s = left_s

    def get_remaining_time_in_millis(self) -> int:
        return int(self._left_s * 1000)


@contextmanager
def listener(refusals: int = 0) -> Iterator[tuple[str, list[tuple[str | None, bytes]]]]:
    """Yield an address for CloudFormation's answers, and those that came: their content type and body."""
    came: list[tuple[str | None, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            nonlocal refusals
            body = self.rfile.read(int(self.headers["content-length"]))
            refusals -= 1
            if refusals < 0:
                came.append((self.headers["content-type"], body))
            self.send_response(200 if refusals < 0 else 503)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/answer", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
