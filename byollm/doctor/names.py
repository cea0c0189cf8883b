"""Whether the names that the stacks take are free, and no deployment is under way."""

from collections.abc import Iterator

from botocore.exceptions import ClientError

from byollm.aws import listed, one
from byollm.doctor.finding import Finding, failed, passed, warned
from byollm.doctor.patient import Patient
from byollm.doctor.remains import remains

STACKS_PAGE = "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/troubleshooting.html"
# From these a stack can only be deleted, or has to be told first how to go on.
STUCK = {"ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED", "CREATE_FAILED"}


def stacks(patient: Patient) -> Iterator[Finding]:
    """No stack is being changed by somebody else, and none is stuck."""
    there = patient.stacks()
    busy = [name for name, status in there.items() if status.endswith("_IN_PROGRESS")]
    stuck = [f"{name} ({status})" for name, status in there.items() if status in STUCK]
    if busy:
        yield failed(
            f"being changed right now: {', '.join(busy)}",
            "Wait until the other deployment has ended",
            STACKS_PAGE,
        )
    if stuck:
        yield failed(
            f"stuck: {', '.join(stuck)}",
            "See their events in the CloudFormation console, then continue the rollback or delete them",
            STACKS_PAGE,
        )
    if not busy and not stuck:
        yield passed(f"{len(there)} of the environment's stacks are there, none of them busy or stuck")


def names(patient: Patient) -> Iterator[Finding]:
    """Nothing that an earlier environment left, or somebody else has, stands where a stack makes its own."""
    there = patient.stacks()
    env = patient.env
    taken = [
        *(_repositories(patient) if f"byollm-{env}-registry" not in there else ()),
        *(_aliases(patient) if f"byollm-{env}-keys" not in there else ()),
        *(_package_group(patient) if f"byollm-{env}-training" not in there else ()),
    ]
    for region in patient.settings.storage.model_copies:
        if f"byollm-{env}-models-{region}" not in patient.stacks(region):
            taken += _bucket(patient, region)
    if taken:
        yield failed(
            f"taken, though no stack of this environment has them: {', '.join(taken)}",
            f"Remove what an earlier environment left (`byollm destroy --env {env} --also-data` does, and "
            "loses its data), or choose another name for the environment",
            "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/resource-import.html",
        )
    else:
        yield passed("all are free, or the environment's own")


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Nothing of an earlier environment is there while it has no stacks."""
    if patient.stacks():
        yield passed("the environment has stacks; what there is is theirs")
        return
    found = [f"{each.kind} {each.name}" for each in remains(patient) if not each.ending]
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        yield warned(
            f"{len(found)} things of an earlier environment cost on: {shown}",
            f"`byollm destroy --env {patient.env}` lists them all and removes what it may",
            "https://docs.aws.amazon.com/ARG/latest/userguide/tag-editor.html",
        )
    else:
        yield passed("nothing of an earlier environment is there")


def _repositories(patient: Patient) -> list[str]:
    repositories = listed(patient.client("ecr"), "describe_repositories", "repositories")
    names = (each["repositoryName"] for each in repositories)
    return [f"image repository {name}" for name in names if name.startswith(f"byollm-{patient.env}/")]


def _aliases(patient: Patient) -> list[str]:
    names = (each["AliasName"] for each in listed(patient.client("kms"), "list_aliases", "Aliases"))
    return [f"key {name}" for name in names if name.startswith(f"alias/byollm/{patient.env}/")]


def _package_group(patient: Patient) -> list[str]:
    name = f"byollm-{patient.env}"
    there = one(patient.client("sagemaker").describe_model_package_group, ModelPackageGroupName=name)
    return [f"model package group {name}"] if there else []


def _bucket(patient: Patient, region: str) -> list[str]:
    account = patient.client("sts").get_caller_identity()["Account"]
    name = f"byollm-{patient.env}-models-{account}-{region}"
    try:
        found = one(patient.client("s3", region).head_bucket, Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "403":
            raise
        return [f"bucket {name} (of another account)"]
    return [f"bucket {name}"] if found else []
