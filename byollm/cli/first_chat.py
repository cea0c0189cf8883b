"""Asks an environment's model a question the way its users will: through the load balancer."""

import time
from typing import TYPE_CHECKING, Any

import httpx

from byollm.doctor.patient import Patient
from byollm.settings import ByollmError

if TYPE_CHECKING:
    from rich.console import Console

PATIENCE_S = 900.0  # a model that sleeps wakes in some ten minutes
PAUSE_S = 5.0
QUESTION = "Who are you?"


class FirstChatError(ByollmError):
    """The platform stands, and does not answer."""


def first_chat(patient: Patient, console: "Console", patience_s: float = PATIENCE_S) -> None:
    """Open the page, ask the model a question, and show the answer; where a login stands in front, say so.

    Raises:
        FirstChatError: nobody answers, or with an error.
    """
    if (address := address_of(patient)) is None:
        console.print("[yellow]no page and no API are deployed[/]: nothing to ask")
        return
    deadline = time.monotonic() + patience_s
    # An emulated AWS has no certificate that this machine trusts.
    with httpx.Client(base_url=address, verify=not patient.emulated, timeout=90, trust_env=False) as client:
        page = _answered(client, "GET", "/", deadline)
        if page.is_redirect or page.status_code == httpx.codes.UNAUTHORIZED:
            console.print(f"{address}: a login stands in front; open it in a browser")
            return
        models = _answered(client, "GET", "/v1/models", deadline).json()["data"]
        asked = {
            "model": models[0]["id"],
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": 64,
        }
        began = time.monotonic()
        answer = _answered(client, "POST", "/v1/chat/completions", deadline, json=asked)
    said = answer.json()["choices"][0]["message"]["content"]
    console.print(f"{address}\n{QUESTION} {said}  [dim]({time.monotonic() - began:.1f} s)[/]")


def address_of(patient: Patient) -> str | None:
    """Return where page and API are; None where the environment has none."""
    stack = f"byollm-{patient.env}-services"
    if stack not in patient.stacks():
        return None
    [found] = patient.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    return outputs.get("Address")


def _answered(
    client: httpx.Client, method: str, path: str, deadline: float, **members: Any
) -> httpx.Response:
    """Ask until there is an answer that is none of those that come while things start."""
    while True:
        try:
            answer = client.request(method, path, **members)
            said = f"{answer.status_code} {answer.text[:200]}"
        except httpx.TransportError as error:
            answer, said = None, str(error) or type(error).__name__
        if answer is not None and answer.status_code < 500:
            if answer.status_code >= 400 and answer.status_code != httpx.codes.UNAUTHORIZED:
                raise FirstChatError(f"{client.base_url}{path} refuses: {said}")
            return answer
        if time.monotonic() > deadline:
            raise FirstChatError(
                f"{client.base_url}{path} does not answer: {said}. All is deployed: read the logs of "
                "gateway and endpoint (docs/troubleshooting.md), and see whether services.sources admits "
                "this machine"
            )
        time.sleep(PAUSE_S)
