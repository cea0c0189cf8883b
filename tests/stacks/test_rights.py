"""What the code of the functions calls is what their roles allow: nothing is missing, nothing is over."""

import re
from collections.abc import Iterable

from botocore import session, xform_name

from tests.stacks.support import ROOT, Synthesis
from tests.stacks.test_inference import statements

# The names of IAM are those of the API, but for these.
IAM = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "sagemaker-runtime:InvokeEndpoint": "sagemaker:InvokeEndpoint",
}

# Rights that AWS asks for beside the one that a call is named after.
IMPLIED = {
    "cloudwatch:TagResource",
    "iam:CreateServiceLinkedRole",
    "iam:PassRole",
    "kms:CreateGrant",
    "kms:DescribeKey",
}


def operations(services: Iterable[str]) -> dict[str, set[str]]:
    """What may be called, by the name that boto3 has for it."""
    found: dict[str, set[str]] = {}
    for service in services:
        for operation in session.get_session().get_service_model(service).operation_names:
            action = f"{service}:{operation}"
            found.setdefault(xform_name(operation), set()).add(IAM.get(action, action))
    return found


def called(files: Iterable[str], *services: str) -> set[str]:
    """The actions that files of the repository call by a method, or hand on the method or its name."""
    known = operations(services)
    text = "".join((ROOT / file).read_text() for file in files)
    return set().union(
        *(known.get(word, set()) for word in re.findall(r"(?<=[.\"])[a-z_]+(?=[\"(,)])", text))
    )


def allowed(synthesis: Synthesis, role: str, policy: str) -> set[str]:
    actions = [each["Action"] for each in statements(synthesis, role, policy)]
    return {action for each in actions for action in ([each] if isinstance(each, str) else each)}


def test_the_reconciler_may_do_just_what_it_does(dev: Synthesis) -> None:
    parts = ("component", "endpoint", "guards", "reconciler", "rollout", "scaling")
    does = called(
        (f"byollm/lifecycle/{part}.py" for part in parts),
        "application-autoscaling",
        "cloudwatch",
        "sagemaker",
    )
    reads = {"sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages"}  # of versions.py
    assert allowed(dev, "inference", "Reconciler") == does | reads | IMPLIED


def test_versions_are_registered_decided_and_read_by_who_may(dev: Synthesis) -> None:
    does = called(["byollm/lifecycle/versions.py"], "sagemaker")
    may = {
        "sagemaker:CreateModelPackage": ("lifecycle", "Publish"),
        "sagemaker:UpdateModelPackage": ("lifecycle", "Approve"),
        "sagemaker:DescribeModelPackage": ("lifecycle", "SmokeTest"),
        "sagemaker:ListModelPackages": ("lifecycle", "Publish"),
    }
    assert does == set(may)
    for action, (role, policy) in may.items():
        assert action in allowed(dev, role, policy)


def test_who_asks_announces_and_goes_on_may(dev: Synthesis) -> None:
    assert called(["byollm/lifecycle/smoke.py"], "sagemaker-runtime") <= allowed(
        dev, "lifecycle", "SmokeTest"
    )
    assert called(["lambdas/endpoint_resource/handler.py"], "lambda") == {"lambda:InvokeFunction"}
    for name in ("Remediate", "ScaleDown"):
        assert called(["byollm/lifecycle/news.py"], "sns") <= allowed(dev, "lifecycle", name)
