"""Training: what a job may touch, who may start one and how, and where model versions are registered."""

from dataclasses import dataclass
from typing import Any

from aws_cdk import App
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_ssm as ssm

from byollm.settings import AwsSettings, JobsSettings
from byollm.settings.instances import INSTANCE_TYPES
from stacks.accepted import accept_objects, accept_wildcards
from stacks.base import PlatformStack
from stacks.execution import SAGEMAKER, ExecutionRole, Place

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
DISK_GB = 100


@dataclass(frozen=True, kw_only=True)
class TrainingPlace(Place):
    """Where jobs run, and what they read and write."""

    data: s3.IBucket
    models: s3.IBucket
    artefacts: s3.IBucket


class TrainingStack(PlatformStack):
    """The role of jobs, how a job is started and the policy of those who do, the group of model versions."""

    def __init__(
        self, app: App, *, env: str, aws: AwsSettings, jobs: JobsSettings, place: TrainingPlace
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="training",
            settings=aws,
            description="Training and model versions of the byollm platform",
        )
        self.job_role = self._job_role(place)
        self.job = ssm.CfnParameter(
            self,
            "Job",
            name=f"/byollm/{env}/training-job",
            description="What every training job has in common, and the instances to try in turn",
            type="String",
            value=self.to_json_string(self._job(jobs, place)),
        )
        self.launch = iam.ManagedPolicy(
            self,
            "Launch",
            description="For those who start training jobs: isolated, in the private network, encrypted",
            statements=self._launch_permissions(jobs, place),
        )
        accept_wildcards(
            self.launch,
            [self._training_jobs(), self._log_streams()],
            "Jobs are named when they start, with this prefix; so is what they log.",
        )
        self.model_versions = sagemaker.CfnModelPackageGroup(
            self,
            "ModelVersions",
            model_package_group_name=f"byollm-{env}",
            model_package_group_description=f"Versions of the model of byollm, environment {env}",
        )
        self.model_versions.apply_removal_policy(self.removal_policy)

    def _job_role(self, place: TrainingPlace) -> ExecutionRole:
        """The role of jobs: to start, to read, to write checkpoints and results, and to tell of itself."""
        role = ExecutionRole(
            self,
            "JobRole",
            description="What training jobs may touch",
            place=place,
            log_groups=[LOG_GROUP],
            namespaces=[LOG_GROUP],
        )
        buckets = (place.data, place.models, place.artefacts)
        for actions, resources in (
            (["s3:ListBucket"], [bucket.bucket_arn for bucket in buckets]),
            (["s3:GetObject"], [bucket.arn_for_objects("*") for bucket in buckets]),
            (
                ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                [place.artefacts.arn_for_objects("*")],
            ),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=actions, resources=resources))
        accept_objects(role, buckets, "A job reads and writes whole buckets, which are named.")
        return role

    def _job(self, jobs: JobsSettings, place: TrainingPlace) -> dict[str, Any]:
        """Return what of CreateTrainingJob is the same for every job here: the launch policy allows no other.

        A launcher adds name, image, data, and after both prefixes the name of the job; where there is no
        capacity it goes on to the next of the instances, because AWS tries no other by itself on spot.
        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html
        """
        stopping = {"MaxRuntimeInSeconds": jobs.run_s}
        return {
            "job": {
                "RoleArn": self.job_role.role_arn,
                "EnableNetworkIsolation": True,
                "EnableManagedSpotTraining": jobs.spot,
                "VpcConfig": {
                    "Subnets": [subnet.subnet_id for subnet in place.subnets],
                    "SecurityGroupIds": [place.group.security_group_id],
                },
                "CheckpointConfig": {"S3Uri": f"s3://{place.artefacts.bucket_name}/checkpoints/"},
                "OutputDataConfig": {
                    "S3OutputPath": f"s3://{place.artefacts.bucket_name}/jobs/",
                    "KmsKeyId": place.key.key_arn,
                },
                "StoppingCondition": stopping | ({"MaxWaitTimeInSeconds": jobs.wait_s} if jobs.spot else {}),
                "Tags": [{"Key": "byollm:environment", "Value": self.environment_name}],
            },
            "instances": [self._instance(kind, place) for kind in jobs.instance_types],
        }

    def _instance(self, kind: str, place: TrainingPlace) -> dict[str, Any]:
        """Return a ResourceConfig; disks that are built in encrypt themselves, and SageMaker takes no key."""
        config = {"InstanceType": kind, "InstanceCount": 1, "VolumeSizeInGB": DISK_GB}
        return config if INSTANCE_TYPES[kind].local_disks else config | {"VolumeKmsKeyId": place.key.key_arn}

    def _launch_permissions(self, jobs: JobsSettings, place: TrainingPlace) -> list[iam.PolicyStatement]:
        """How a job may start: isolated, in these subnets, on these instances, for so long, as this role.

        https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
        """
        own = [self._training_jobs()]
        with_disks = [kind for kind in jobs.instance_types if INSTANCE_TYPES[kind].local_disks]
        others = [kind for kind in jobs.instance_types if kind not in with_disks]
        keys = {"sagemaker:OutputKmsKey": place.key.key_arn}
        return [
            *(
                iam.PolicyStatement(
                    actions=["sagemaker:CreateTrainingJob"],
                    resources=own,
                    conditions=_launched(place, kinds, jobs.run_s, encrypted),
                )
                for kinds, encrypted in (
                    (with_disks, keys),
                    (others, keys | {"sagemaker:VolumeKmsKey": place.key.key_arn}),
                )
                if kinds
            ),
            iam.PolicyStatement(
                actions=["sagemaker:AddTags", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"],
                resources=own,
            ),
            iam.PolicyStatement(
                actions=["logs:GetLogEvents"],  # to follow it
                resources=[self._log_streams()],
            ),
            iam.PolicyStatement(
                actions=["ssm:GetParameter"],
                resources=[f"arn:aws:ssm:{self.region}:{self.account}:parameter{self.job.name}"],
            ),
            iam.PolicyStatement(
                actions=["iam:PassRole"],
                resources=[self.job_role.role_arn],
                conditions={"StringEquals": {"iam:PassedToService": SAGEMAKER}},
            ),
        ]

    def _training_jobs(self) -> str:
        name = f"byollm-{self.environment_name}-*"
        return f"arn:aws:sagemaker:{self.region}:{self.account}:training-job/{name}"

    def _log_streams(self) -> str:
        group = f"arn:aws:logs:{self.region}:{self.account}:log-group:{LOG_GROUP}"
        return f"{group}:log-stream:byollm-{self.environment_name}-*"


def _launched(
    place: TrainingPlace, instance_types: list[str], run_s: int, keys: dict[str, str]
) -> dict[str, Any]:
    """Return the conditions under which a job starts on these instances."""
    isolated = place.isolated
    return isolated | {
        "ForAllValues:StringEquals": isolated["ForAllValues:StringEquals"]
        | {"sagemaker:InstanceTypes": instance_types},
        "Null": isolated["Null"] | {"sagemaker:InstanceTypes": "false"},
        "NumericLessThanEquals": {"sagemaker:MaxRuntimeInSeconds": run_s},
        "ArnEquals": keys,
    }
