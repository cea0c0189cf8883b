"""What a training job may ask for: what is not emulated, or cannot be, is refused before anything starts."""

import re
from collections.abc import Iterable

from byollm.local.protocol import AwsError, Members
from byollm.local.sagemaker.s3_files import S3FilesError, address

HOSTS = 8  # processes of one job on this machine
INPUTS = "/opt/ml"

NOT_EMULATED = {
    "": (
        "DebugHookConfig",
        "DebugRuleConfigurations",
        "TensorBoardOutputConfig",
        "ExperimentConfig",
        "ProfilerConfig",
        "ProfilerRuleConfigurations",
        "RemoteDebugConfig",
        "InfraCheckConfig",
        "SessionChainingConfig",
        "ServerlessJobConfig",
        "MlflowConfig",
        "ModelPackageConfig",
    ),
    "AlgorithmSpecification": ("AlgorithmName", "ContainerEntrypoint", "TrainingImageConfig"),
    "ResourceConfig": (
        "KeepAlivePeriodInSeconds",
        "InstanceGroups",
        "TrainingPlanArn",
        "InstancePlacementConfig",
        "InstancePreferences",
    ),
}


def check(given: Members) -> None:
    """Refuse a CreateTrainingJob that cannot be run here as SageMaker would run it.

    Raises:
        AwsError: with the member's name, or AWS's own words where it would refuse as well.
    """
    for path, members in NOT_EMULATED.items():
        _refuse(given.get(path, {}) if path else given, members, path)
    algorithm = given.get("AlgorithmSpecification", {})
    resources = given.get("ResourceConfig", {})
    for member, part in (
        ("TrainingImage", algorithm),
        ("InstanceType", resources),
        ("InstanceCount", resources),
    ):
        if member not in part:
            raise _invalid(f"{member} is required")
    if resources["InstanceCount"] > HOSTS:
        raise AwsError(
            "ResourceLimitExceeded",
            f"The account-level service limit '{resources['InstanceType']} for training job usage' is "
            f"{HOSTS} Instances, with a request delta of {resources['InstanceCount']} Instances.",
        )
    _check_mode(algorithm["TrainingInputMode"])
    _check_metrics(algorithm.get("MetricDefinitions", ()))
    _check_channels(given.get("InputDataConfig", ()))
    _check_limits(given)
    _check_address("OutputDataConfig.S3OutputPath", given["OutputDataConfig"]["S3OutputPath"])
    if "CheckpointConfig" in given:
        _check_address("CheckpointConfig.S3Uri", given["CheckpointConfig"]["S3Uri"])
    local = given.get("CheckpointConfig", {}).get("LocalPath", f"{INPUTS}/checkpoints")
    if not local.startswith(f"{INPUTS}/") or ".." in local.split("/"):
        raise _invalid(f"CheckpointConfig.LocalPath {local} is emulated below {INPUTS} only (docs/local.md)")


def _check_limits(given: Members) -> None:
    condition = given.get("StoppingCondition", {})
    wait = condition.get("MaxWaitTimeInSeconds")
    if not given.get("EnableManagedSpotTraining"):
        if wait is not None:
            raise _invalid("MaxWaitTimeInSeconds can be given for managed spot training only")
    elif wait is None or wait < condition.get("MaxRuntimeInSeconds", MAX_RUNTIME_S):
        raise _invalid(
            "Invalid MaxWaitTimeInSeconds. "
            "It must be present and be greater than or equal to MaxRuntimeInSeconds"
        )


MAX_RUNTIME_S = 86_400  # AWS's own default


def _check_channels(channels: Iterable[Members]) -> None:
    names: set[str] = set()
    for channel in channels:
        name = channel["ChannelName"]
        if name in names or not re.fullmatch(r"[A-Za-z0-9.\-_]+", name) or name.strip(".") == "":
            raise _invalid(f"Channel names must be unique, of letters, digits, '.', '-' and '_': {name!r}")
        names.add(name)
        _check_mode(channel.get("InputMode", "File"))
        _refuse(channel, ("ShuffleConfig",), f"channel {name}")
        for member in ("CompressionType", "RecordWrapperType"):
            if channel.get(member, "None") != "None":
                raise _invalid(f"{member} of channel {name} is for Pipe mode, which is not emulated")
        source = channel["DataSource"].get("S3DataSource")
        if source is None or source["S3DataType"] != "S3Prefix":
            raise _invalid(f"channel {name}: of data sources, S3DataSource with S3Prefix is emulated")
        _check_address(f"channel {name}", source["S3Uri"])
        _refuse(source, ("InstanceGroupNames", "ModelAccessConfig", "HubAccessConfig"), f"channel {name}")


def _check_address(member: str, url: str) -> None:
    try:
        address(url)
    except S3FilesError as error:
        raise _invalid(f"{member}: {error}") from None


def _check_mode(mode: str) -> None:
    if mode == "Pipe":
        raise _invalid("TrainingInputMode Pipe is not emulated; use File or FastFile (docs/local.md)")


def _check_metrics(definitions: Iterable[Members]) -> None:
    for definition in definitions:
        try:
            re.compile(definition["Regex"])
        except re.error as error:
            raise _invalid(f"The Regex of metric {definition['Name']} is none: {error}") from None


def _refuse(part: Members, members: Iterable[str], path: str) -> None:
    for member in members:
        if member in part:
            named = f"{path}.{member}" if path else member
            raise AwsError("ValidationException", f"{named} is not emulated (docs/local.md)", 501)


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)
