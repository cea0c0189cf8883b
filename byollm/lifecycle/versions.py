"""Versions of the model, as SageMaker's registry keeps them: registered, approved, rejected."""

import json
from contextlib import suppress
from typing import Any

from byollm.aws import Clients, explained, listed
from byollm.lifecycle.artefact import Artefact, digest
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.errors import LifecycleError

LONGEST_REASON = 1024


class Versions:
    """The versions in one environment's group.

    Which variant a version is for, and its content, stand in its description as `main/3fa91c5e02bd`: of all
    that is said of a version only that is in the list, so the list is enough.
    """

    def __init__(self, clients: Clients, deployment: Deployment) -> None:
        self._sagemaker, self._deployment = clients.client("sagemaker"), deployment

    @explained()
    def register(self, artefact: Artefact, variant: str) -> str:
        """Return the ARN of the version; the one registered last, where it is the same.

        Raises:
            LifecycleError: the endpoint has no such variant.
        """
        known = [one.name for one in self._deployment.spec.variants]
        if variant not in known:
            raise LifecycleError(f"variant {variant!r}: the endpoint has {', '.join(known)}")
        description = f"{variant}/{digest(artefact.model_dump())}"
        last = next((one for one in self._newest_first() if _variant(one) == variant), None)
        if last and last["ModelPackageDescription"] == description:
            return str(last["ModelPackageArn"])
        source = {"S3Uri": artefact.model, "S3DataType": "S3Prefix", "CompressionType": "None"}
        container = {"Image": artefact.image, "ModelDataSource": {"S3DataSource": source}}
        made = self._sagemaker.create_model_package(
            ModelPackageGroupName=self._deployment.package_group,
            ModelPackageDescription=description,
            ModelApprovalStatus="PendingManualApproval",
            InferenceSpecification={
                "Containers": [container],
                "SupportedContentTypes": ["application/json"],
                "SupportedResponseMIMETypes": ["application/json", "text/event-stream"],
                "SupportedRealtimeInferenceInstanceTypes": [self._deployment.spec.instance_type],
            },
        )
        return str(made["ModelPackageArn"])

    @explained()
    def decide(self, version: str, approved: bool, reason: str) -> None:
        """Approve a version or reject it, and say why."""
        self._sagemaker.update_model_package(
            ModelPackageArn=version,
            ModelApprovalStatus="Approved" if approved else "Rejected",
            ApprovalDescription=_plain(reason),
        )

    @explained()
    def serving(self, version: str | None = None) -> dict[str, Artefact]:
        """Return what each variant should serve: its newest approved version, if it has one.

        Args:
            version: takes the place of the approved one of its variant, to be tried.
        """
        newest: dict[str, str] = {}
        for one in self._newest_first("Approved"):
            newest.setdefault(_variant(one), one["ModelPackageArn"])
        known = {one.name for one in self._deployment.spec.variants}
        found = dict(self._described(arn) for variant, arn in newest.items() if variant in known)
        return found | ({} if version is None else dict([self._described(version)]))

    @explained()
    def variant(self, version: str) -> str:
        """Return which variant a version is for."""
        return self._described(version)[0]

    def _newest_first(self, approval: str | None = None) -> list[dict[str, Any]]:
        given = {"ModelApprovalStatus": approval} if approval else {}
        found = listed(
            self._sagemaker,
            "list_model_packages",
            "ModelPackageSummaryList",
            ModelPackageGroupName=self._deployment.package_group,
            **given,
        )
        return sorted(found, key=lambda one: int(one["ModelPackageVersion"]), reverse=True)

    def _described(self, version: str) -> tuple[str, Artefact]:
        package = self._sagemaker.describe_model_package(ModelPackageName=version)
        try:
            (container,) = package["InferenceSpecification"]["Containers"]
            model = container["ModelDataSource"]["S3DataSource"]["S3Uri"]
        except (KeyError, ValueError):
            raise LifecycleError(
                f"{version}: expected one container and its model's prefix in S3, as `byollm publish` "
                "registers them"
            ) from None
        return _variant(package), Artefact.of(container["Image"], model)


def _variant(package: dict[str, Any]) -> str:
    return str(package.get("ModelPackageDescription", "")).partition("/")[0]


def _plain(reason: str) -> str:
    """Return a reason as the registry takes it: one line; of a function's error its message."""
    with suppress(ValueError, TypeError, KeyError):  # it is no function's error, but words
        reason = str(json.loads(reason)["errorMessage"])
    return " ".join(reason.split())[:LONGEST_REASON]
