"""The model registry: groups of model packages, their versions, and who may be deployed."""

from byollm.local.protocol import AwsError, Members
from byollm.local.sagemaker.collection import Collection
from byollm.local.sagemaker.events import Events
from byollm.local.sagemaker.tags import Tags
from byollm.local.store import Document, Store
from byollm.local.world import World

CHANGE = "SageMaker Model Package State Change"
# What UpdateModelPackage replaces as a whole.
REPLACED = (
    "ModelApprovalStatus",
    "ApprovalDescription",
    "InferenceSpecification",
    "SourceUri",
    "ModelCard",
    "ModelLifeCycle",
)
SUMMARY = (
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageDescription",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelLifeCycle",
)


class ModelPackages:
    """Model package groups and the versions in them; packages without a group are not emulated."""

    def __init__(self, world: World, store: Store, tags: Tags, events: Events) -> None:
        self._world, self._store, self._events = world, store, events
        self._groups = Collection(
            world, store, tags, "ModelPackageGroup", "model-package-group", "model package group"
        )
        self._packages = Collection(world, store, tags, "ModelPackage", "model-package", "model package")

    async def create_model_package_group(self, given: Members) -> Members:
        """CreateModelPackageGroup."""
        group = self._groups.add(given, ModelPackageGroupStatus="Completed", CreatedBy={})
        return {"ModelPackageGroupArn": group["ModelPackageGroupArn"]}

    async def describe_model_package_group(self, given: Members) -> Members:
        """DescribeModelPackageGroup."""
        return self._group(given)

    async def list_model_package_groups(self, given: Members) -> Members:
        """ListModelPackageGroups."""
        members = ("ModelPackageGroupDescription", "ModelPackageGroupStatus")
        return self._groups.page(given, members, plural="ModelPackageGroupSummaryList")

    async def delete_model_package_group(self, given: Members) -> None:
        """DeleteModelPackageGroup; one that has versions stays."""
        group = self._group(given)
        name = group["ModelPackageGroupName"]
        if any(package["ModelPackageGroupName"] == name for package in self._packages.all()):
            raise AwsError(
                "ConflictException",
                f"Model Package Group {group['ModelPackageGroupArn']} cannot be deleted because it contains "
                "Model Packages. Delete them first.",
            )
        self._groups.remove(name)

    async def create_model_package(self, given: Members) -> Members:
        """CreateModelPackage: the next version of its group. The same ClientToken makes no second one."""
        _check(given)
        group = self._group(given)
        name = group["ModelPackageGroupName"]
        request = f"{name}/{given['ClientToken']}" if "ClientToken" in given else None
        if request and (made := self._store.get("ModelPackageRequest", request)):
            return {"ModelPackageArn": made["ModelPackageArn"]}
        version = group.get("LastVersion", 0) + 1
        key = f"{name.lower()}/{version}"
        package = {
            "ModelApprovalStatus": "PendingManualApproval",
            **{member: value for member, value in given.items() if member != "ClientToken"},
            "ModelPackageName": key,
            "ModelPackageArn": self._packages.arn(key),
            "ModelPackageGroupName": name,
            "ModelPackageVersion": version,
            "CreationTime": self._world.clock.now(),
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        }
        self._groups.put({**group, "LastVersion": version})  # a number is given once, whatever is deleted
        self._packages.put(package)
        if request:
            made = {"ModelPackageArn": package["ModelPackageArn"]}
            self._store.put("ModelPackageRequest", request, made)
        self._tell(package)
        return {"ModelPackageArn": package["ModelPackageArn"]}

    async def describe_model_package(self, given: Members) -> Members:
        """DescribeModelPackage."""
        return _shown(self._package(given["ModelPackageName"]))

    async def update_model_package(self, given: Members) -> Members:
        """UpdateModelPackage: its approval, and what customers wrote on it."""
        package = self._package(given["ModelPackageArn"])
        approval = package["ModelApprovalStatus"]
        package |= {member: given[member] for member in REPLACED if member in given}
        written = "CustomerMetadataProperties"
        properties = package.get(written, {}) | given.get(written, {})
        for name in given.get("CustomerMetadataPropertiesToRemove", ()):
            properties.pop(name, None)
        package[written] = properties
        more = given.get("AdditionalInferenceSpecificationsToAdd", [])
        package["AdditionalInferenceSpecifications"] = [
            *package.get("AdditionalInferenceSpecifications", []),
            *more,
        ]
        self._packages.put(package)
        if package["ModelApprovalStatus"] != approval:
            self._tell(package)
        return {"ModelPackageArn": package["ModelPackageArn"]}

    async def list_model_packages(self, given: Members) -> Members:
        """ListModelPackages; without a group and a type it lists packages without versions: none, here."""
        if (
            given.get("ModelPackageType", "Unversioned") == "Unversioned"
            and "ModelPackageGroupName" not in given
        ):
            return {"ModelPackageSummaryList": []}
        filters = {}
        if "ModelPackageGroupName" in given:
            filters["ModelPackageGroupNameEquals"] = self._group(given)["ModelPackageGroupName"]
        if "ModelApprovalStatus" in given:
            filters["ModelApprovalStatusEquals"] = given["ModelApprovalStatus"]
        answer = self._packages.page(
            {**given, **filters},
            SUMMARY,
            equal=("ModelPackageGroupName", "ModelApprovalStatus"),
            plural="ModelPackageSummaryList",
        )
        answer["ModelPackageSummaryList"] = [_shown(one) for one in answer["ModelPackageSummaryList"]]
        return answer

    async def delete_model_package(self, given: Members) -> None:
        """DeleteModelPackage."""
        self._packages.remove(self._package(given["ModelPackageName"])["ModelPackageName"])

    def _group(self, given: Members) -> Document:
        """Return the group that a request names, by its name or its ARN."""
        name = given["ModelPackageGroupName"]
        for group in self._groups.all():
            if name in (group["ModelPackageGroupName"], group["ModelPackageGroupArn"]):
                return group
        arn = name if name.startswith("arn:") else self._groups.arn(name)
        raise AwsError("ValidationException", f"Model Package Group {arn} does not exist.")

    def _package(self, name: str) -> Document:
        """Return the version of that ARN, or of that `<group>/<version>`."""
        arn = name if name.startswith("arn:") else self._packages.arn(name)
        package = self._packages.find("/".join(arn.split("/")[1:]))
        if package is None or package["ModelPackageArn"] != arn:
            raise AwsError("ValidationException", f"Model Package {arn} does not exist.")
        return package

    def _tell(self, package: Document) -> None:
        self._events.tell(CHANGE, package["ModelPackageArn"], _shown(package))


def _shown(package: Document) -> Document:
    """Leave out the name, which a version in a group does not have."""
    return {member: value for member, value in package.items() if member != "ModelPackageName"}


def _check(given: Members) -> None:
    if "ModelPackageGroupName" not in given:
        raise AwsError(
            "ValidationException", "model packages without a group are not emulated (docs/local.md)", 501
        )
    if "ModelPackageName" in given:
        raise AwsError(
            "ValidationException",
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. "
            "Cannot determine which one to use.",
        )
    if "Tags" in given:
        raise AwsError("ValidationException", "A version has the tags of its group and none of its own.")
    if "InferenceSpecification" not in given:
        raise AwsError("ValidationException", "A version needs an InferenceSpecification.")
