"""The smoke test: a plain question, which a model that works can answer."""

import json
import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from byollm.aws import Clients, explain
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.errors import SmokeTestFailed

QUESTION = {
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 32,
    "temperature": 0,
}
LONGEST = 500
"""Characters of an answer that are passed on."""

REFUSED = {"AccessDeniedException", "ValidationError", "ValidationException"}
"""What asking again does not change, unless nothing runs yet."""


@dataclass(frozen=True)
class Answer:
    """What the endpoint said, and how long it took."""

    text: str
    seconds: float


def ask(
    clients: Clients, deployment: Deployment, variant: str, *, until: float, every_s: float = 5.0
) -> Answer:
    """Ask the endpoint, again and again while it wakes.

    Args:
        clients: of the endpoint's region.
        deployment: the endpoint.
        variant: which one is to answer; a shadow's answers nobody sees, so it is not asked.
        until: when to give up, on `time.monotonic()`.
        every_s: pause between attempts.

    Raises:
        SmokeTestFailed: it does not answer, or what it answers is no chat.
    """
    runtime = clients.client("sagemaker-runtime")
    shadows = {one.name for one in deployment.spec.variants if one.shadow}
    place: dict[str, str] = {"EndpointName": deployment.name}
    if deployment.spec.hosting == "component":
        place["InferenceComponentName"] = deployment.component
    elif variant not in shadows:
        place["TargetVariant"] = variant
    while True:
        began = time.monotonic()
        try:
            answer = runtime.invoke_endpoint(
                **place, ContentType="application/json", Body=json.dumps(QUESTION)
            )
            return Answer(_text(answer["Body"].read()), round(time.monotonic() - began, 3))
        except (BotoCoreError, ClientError) as error:
            if not _wakes(error) or time.monotonic() + every_s > until:
                raise SmokeTestFailed(
                    f"endpoint {deployment.name} does not answer: {explain(error)}"
                ) from error
        time.sleep(every_s)


def _wakes(error: BotoCoreError | ClientError) -> bool:
    """Whether the endpoint may answer a little later: it has no instance yet, or is busy."""
    if isinstance(error, BotoCoreError):
        return isinstance(error, ConnectionError | HTTPClientError)
    fault = error.response["Error"]
    if error.response.get("OriginalStatusCode", 503) not in (429, 503):
        return False  # the container answered, and so it would again
    return fault["Code"] not in REFUSED or "capacity" in fault["Message"].lower()


def _text(body: bytes) -> str:
    """Return what was said."""
    try:
        content: Any = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        content = None
    if not isinstance(content, str) or not content.strip():
        shown = body[:LONGEST].decode(errors="replace")
        raise SmokeTestFailed(f"the endpoint answers, but not as a chat with text in it: {shown}")
    return content[:LONGEST]
