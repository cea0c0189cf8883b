"""Training: what a job may touch, who may start one and how, and where model versions are registered."""

from dataclasses import dataclass

from aws_cdk import App
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker

from byollm.settings import AwsSettings
from stacks.accepted import accept_objects, accept_wildcards
from stacks.base import PlatformStack

SAGEMAKER = "sagemaker.amazonaws.com"


@dataclass(frozen=True, kw_only=True)
class TrainingPlace:
    """Where jobs run, and what they read and write."""

    subnets: list[ec2.ISubnet]
    group: ec2.ISecurityGroup
    data: s3.IBucket
    models: s3.IBucket
    artefacts: s3.IBucket
    key: kms.IKey
    repository: ecr.IRepository


class TrainingStack(PlatformStack):
    """The role of training jobs, the policy of those who start them, and the group of model versions."""

    def __init__(self, app: App, *, env: str, aws: AwsSettings, place: TrainingPlace) -> None:
        super().__init__(
            app,
            env=env,
            role="training",
            settings=aws,
            description="Training and model versions of the byollm platform",
        )
        self.job_role = iam.Role(
            self,
            "JobRole",
            description="What training jobs may touch",
            # On behalf of this account only.
            # https://docs.aws.amazon.com/sagemaker/latest/dg/security-confused-deputy-prevention.html
            assumed_by=iam.ServicePrincipal(
                SAGEMAKER, conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
        )
        for statement in self._job_permissions(place):
            self.job_role.add_to_policy(statement)
        self.launch = iam.ManagedPolicy(
            self,
            "Launch",
            description="For those who start training jobs: isolated, in the private network, encrypted",
            statements=self._launch_permissions(place),
        )
        self.model_versions = sagemaker.CfnModelPackageGroup(
            self,
            "ModelVersions",
            model_package_group_name=f"byollm-{env}",
            model_package_group_description=f"Versions of the model of byollm, environment {env}",
        )
        self.model_versions.apply_removal_policy(self.removal_policy)
        self._accept_wildcards(place)

    def _job_permissions(self, place: TrainingPlace) -> list[iam.PolicyStatement]:
        """What a job needs to start, to read, to write checkpoints and results, and to tell of itself.

        https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html
        """
        buckets = (place.data, place.models, place.artefacts)
        return [
            iam.PolicyStatement(
                actions=["s3:ListBucket"], resources=[bucket.bucket_arn for bucket in buckets]
            ),
            iam.PolicyStatement(
                actions=["s3:GetObject"], resources=[bucket.arn_for_objects("*") for bucket in buckets]
            ),
            iam.PolicyStatement(
                actions=["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                resources=[place.artefacts.arn_for_objects("*")],
            ),
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"],
                resources=[place.key.key_arn],
            ),
            # The disks of its instances.
            iam.PolicyStatement(
                actions=["kms:CreateGrant"],
                resources=[place.key.key_arn],
                conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            ),
            iam.PolicyStatement(
                actions=[
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:GetDownloadUrlForLayer",
                ],
                resources=[place.repository.repository_arn],
            ),
            iam.PolicyStatement(
                actions=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
                resources=[self._logs(), self._logs("*")],
            ),
            # Its place in the private network.
            iam.PolicyStatement(
                actions=["ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission"],
                resources=[
                    *(self._ec2(f"subnet/{subnet.subnet_id}") for subnet in place.subnets),
                    self._ec2(f"security-group/{place.group.security_group_id}"),
                    self._ec2("network-interface/*"),
                ],
            ),
            iam.PolicyStatement(
                actions=["ec2:DeleteNetworkInterface", "ec2:DeleteNetworkInterfacePermission"],
                resources=[self._ec2("network-interface/*")],
                conditions={
                    "ArnEquals": {
                        "ec2:Subnet": [self._ec2(f"subnet/{subnet.subnet_id}") for subnet in place.subnets]
                    }
                },
            ),
            # These name no resource: AWS knows none for them.
            iam.PolicyStatement(
                actions=[
                    "ec2:DescribeDhcpOptions",
                    "ec2:DescribeNetworkInterfaces",
                    "ec2:DescribeSecurityGroups",
                    "ec2:DescribeSubnets",
                    "ec2:DescribeVpcs",
                    "ecr:GetAuthorizationToken",
                ],
                resources=["*"],
            ),
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringEquals": {"cloudwatch:namespace": "/aws/sagemaker/TrainingJobs"}},
            ),
        ]

    def _launch_permissions(self, place: TrainingPlace) -> list[iam.PolicyStatement]:
        """How a job may be started: isolated, in these subnets, under this key, as this role.

        https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
        """
        jobs = [self._training_jobs()]
        return [
            iam.PolicyStatement(
                actions=["sagemaker:CreateTrainingJob"],
                resources=jobs,
                conditions={
                    "Bool": {"sagemaker:NetworkIsolation": "true"},
                    "ForAllValues:StringEquals": {
                        "sagemaker:VpcSubnets": [subnet.subnet_id for subnet in place.subnets],
                        "sagemaker:VpcSecurityGroupIds": [place.group.security_group_id],
                    },
                    # An absent list would satisfy the condition above.
                    "Null": {"sagemaker:VpcSubnets": "false", "sagemaker:VpcSecurityGroupIds": "false"},
                    "ArnEquals": {
                        "sagemaker:OutputKmsKey": place.key.key_arn,
                        "sagemaker:VolumeKmsKey": place.key.key_arn,
                    },
                },
            ),
            iam.PolicyStatement(
                actions=["sagemaker:AddTags", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"],
                resources=jobs,
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

    def _ec2(self, resource: str) -> str:
        return f"arn:aws:ec2:{self.region}:{self.account}:{resource}"

    def _logs(self, stream: str | None = None) -> str:
        group = f"arn:aws:logs:{self.region}:{self.account}:log-group:/aws/sagemaker/TrainingJobs"
        return f"{group}:{stream}" if stream else group

    def _accept_wildcards(self, place: TrainingPlace) -> None:
        accept_objects(
            self.job_role,
            [place.data, place.models, place.artefacts],
            "A job reads and writes whole buckets, which are named.",
        )
        accept_wildcards(
            self.job_role,
            [self._ec2("network-interface/*"), self._logs("*")],
            "SageMaker makes interfaces and log streams and names them; their subnets and group are named.",
        )
        accept_wildcards(
            self.job_role,
            ["*"],
            "AWS knows no resource for describing networks, for the registry's token and for metrics.",
        )
        accept_wildcards(
            self.launch, [self._training_jobs()], "Jobs are named when they start, with this prefix."
        )
