"""Endpoints to bring up, and the stepping until they stand."""

from typing import Any

from byollm.lifecycle import Artefact, Artefacts, Deployment, Progress, Reconciler
from byollm.settings.endpoint import EndpointSpec
from tests.lifecycle.fake import FakeAws

ROLE = "arn:aws:iam::123456789012:role/byollm-dev-endpoint"
KEY = "arn:aws:kms:ca-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

COMPONENT = {"hosting": "component", "scaling": {"minimum": 0, "maximum": 3}}
TWO = {"scaling": {"minimum": 2}}
ROLLING = {"hosting": "component", "rollout": {"strategy": "rolling"}}
CANARY = {**TWO, "rollout": {"strategy": "canary"}}
AB = {"variants": [{"name": "main", "weight": 9}, {"name": "other", "weight": 1}]}
SHADOW = {"variants": [{"name": "main"}, {"name": "next", "shadow": True}]}


def artefact(version: int = 1) -> Artefact:
    image = f"123456789012.dkr.ecr.ca-central-1.amazonaws.com/byollm-dev/inference@sha256:{version:064x}"
    return Artefact(image=image, model=f"s3://byollm-dev-models/versions/{version:032x}/")


def deployment(spec: dict[str, Any] | EndpointSpec | None = None, **more: Any) -> Deployment:
    values = {"environment": "dev", "name": "byollm-dev", "role_arn": ROLE, "package_group": "byollm-dev"}
    return Deployment.model_validate({**values, "spec": spec or {}, **more})


def serving(deployment: Deployment, version: int = 1) -> Artefacts:
    return {variant.name: artefact(version) for variant in deployment.spec.variants}


def converge(aws: FakeAws, deployment: Deployment, artefacts: Artefacts | None = None) -> list[Progress]:
    """Step until all is done, each step by a process of its own."""
    taken: list[Progress] = []
    while not taken or not taken[-1].done:
        assert len(taken) < 30, f"it does not end: {taken[-5:]}"
        taken.append(
            Reconciler(aws, deployment).step(serving(deployment) if artefacts is None else artefacts)  # type: ignore[arg-type]
        )
        aws.settle()
    return taken


def take_down(aws: FakeAws, deployment: Deployment) -> list[Progress]:
    taken: list[Progress] = []
    while not taken or not taken[-1].done:
        assert len(taken) < 30, f"it does not end: {taken[-5:]}"
        taken.append(Reconciler(aws, deployment).remove())  # type: ignore[arg-type]
        aws.settle()
    return taken
