"""The endpoint as a custom resource of CloudFormation: what is asked for, and the answer.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/crpg-ref-responses.html
"""

import json
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from byollm.aws import Clients
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.errors import LifecycleError
from byollm.lifecycle.progress import Progress, settle
from byollm.lifecycle.reconciler import Reconciler
from byollm.lifecycle.versions import Versions

LONGEST_REASON = 1000
"""Characters of a reason; an answer has 4 KB at most, and the console shows little more."""


def converge(kind: str, clients: Clients, deployment: Deployment, *, until: float) -> Progress:
    """Do what CloudFormation asks for, as far as it goes by `until` on `time.monotonic()`.

    Args:
        kind: `Create`, `Update` or `Delete`.

    Raises:
        LifecycleError: the endpoint failed, or something is left after its removal.
    """
    reconciler = Reconciler(clients, deployment)
    if kind == "Delete":
        progress = settle(reconciler.remove, until=until)
        left = reconciler.left() if progress.done else []
        if left:
            raise LifecycleError(f"left behind: {', '.join(left)}. Delete it, then the stack again")
        return progress
    if kind not in ("Create", "Update"):
        raise LifecycleError(f"RequestType {kind!r} is unknown; expected Create, Update or Delete")
    artefacts = Versions(clients, deployment).serving()
    if not artefacts:  # a first deployment: there is an endpoint once a version is released
        return Progress(True)
    return settle(lambda: reconciler.step(artefacts), until=until)


def answer(event: dict[str, Any], name: str, failure: str | None = None) -> None:
    """Tell CloudFormation that it is done, or why not.

    Args:
        event: CloudFormation's request.
        name: of the endpoint. The resource is called so whatever happens: CloudFormation never takes one for
            replaced.
        failure: why it is not done.
    """
    body = {
        "Status": "FAILED" if failure else "SUCCESS",
        "Reason": (failure or "")[:LONGEST_REASON],
        "PhysicalResourceId": name,
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "Data": {"EndpointName": name},
    }
    address = event["ResponseURL"]
    if urlsplit(address).scheme not in ("http", "https"):
        raise LifecycleError("ResponseURL: expected an address of https")
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        address,
        data=json.dumps(body).encode(),
        method="PUT",
        headers={"Content-Type": ""},  # what the address was signed for
    )
    for pause_s in (1, 4, 16, None):
        try:
            urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
            return
        except OSError:
            if pause_s is None:
                raise
            time.sleep(pause_s)
