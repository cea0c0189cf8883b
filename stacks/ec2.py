"""The inference image on one GPU instance of EC2, without SageMaker: for who wants a machine and no more."""

from dataclasses import dataclass

from aws_cdk import App
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3

from byollm.settings import AwsSettings, Ec2Settings
from stacks.accepted import accept, accept_objects, accept_wildcards
from stacks.base import PlatformStack
from stacks.logs import log_group
from stacks.network import NetworkStack

START = """\
#!/bin/bash
set -euo pipefail
install -d -m 755 /opt/byollm/model
aws s3 sync --only-show-errors 's3://{bucket}/{prefix}' /opt/byollm/model
chmod -R a+rX /opt/byollm/model
aws ecr get-login-password --region {region} | docker login --username AWS --password-stdin '{registry}'
docker pull '{image}'

cat > /etc/systemd/system/byollm.service <<'UNIT'
[Unit]
Description=byollm inference
Requires=docker.service
After=docker.service network-online.target
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=5
TimeoutStartSec=1200
TimeoutStopSec=40
ExecStartPre=-/usr/bin/docker rm --force byollm
ExecStart=/usr/bin/docker run --name byollm --rm {gpus}--publish 127.0.0.1:8080:8080 --stop-timeout 30 \\
  --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \\
  --volume /opt/byollm/model:/opt/ml/model:ro \\
  --log-driver awslogs --log-opt awslogs-region={region} --log-opt awslogs-group={logs} \\
  {image} serve
ExecStartPost=/bin/sh -c 'until curl --fail --silent --max-time 5 127.0.0.1:8080/ping; do sleep 5; done'
ExecStop=/usr/bin/docker stop byollm

[Install]
WantedBy=multi-user.target
UNIT

cat > /etc/systemd/system/byollm-health.service <<'UNIT'
[Unit]
Description=Restart byollm if it no longer answers

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'systemctl is-active --quiet byollm || exit 0; \\
  curl --fail --silent --retry 3 --retry-all-errors --max-time 60 http://127.0.0.1:8080/ping \\
  || systemctl restart --no-block byollm'
UNIT

cat > /etc/systemd/system/byollm-health.timer <<'UNIT'
[Timer]
OnActiveSec=60
OnUnitActiveSec=60

[Install]
WantedBy=timers.target
UNIT

systemctl daemon-reload
systemctl enable --now byollm-health.timer
systemctl enable --now --no-block byollm.service
"""


@dataclass(frozen=True, kw_only=True)
class Ec2Place:
    """Where the instance stands, and what it runs."""

    network: NetworkStack
    repository: ecr.Repository
    digest: str
    models: s3.IBucket
    data_key: kms.IKey
    logs_key: kms.IKey


class Ec2Stack(PlatformStack):
    """One instance, made anew when it dies or when image, model or settings change.

    Nobody reaches it over the network; Session Manager forwards its port to who may use that
    (docs/deployment.md).
    """

    def __init__(
        self, app: App, *, env: str, aws: AwsSettings, ec2_settings: Ec2Settings, place: Ec2Place
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="ec2",
            settings=aws,
            description="The model of the byollm platform on one instance",
        )
        assert ec2_settings.model_prefix is not None
        group = log_group(self, "Logs", aws=aws, key=place.logs_key, name=f"/byollm/{env}/ec2")
        role = iam.Role(
            self,
            "Role",
            description="What the instance may touch",
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
        )
        for statement in self._permissions(place, ec2_settings.model_prefix, group):
            role.add_to_policy(statement)
        self._accept(role, place, ec2_settings.model_prefix)
        template = ec2.LaunchTemplate(
            self,
            "Template",
            launch_template_name=f"byollm-{env}-ec2",
            instance_type=ec2.InstanceType(ec2_settings.instance_type),
            machine_image=ec2.MachineImage.from_ssm_parameter(ec2_settings.image_parameter),
            role=role,
            security_group=ec2.SecurityGroup.from_security_group_id(
                self, "Group", place.network.groups.inference.security_group_id, mutable=False
            ),
            associate_public_ip_address=False,
            require_imdsv2=True,
            http_put_response_hop_limit=1,  # containers get no credentials
            instance_metadata_tags=False,
            detailed_monitoring=True,
            block_devices=[
                ec2.BlockDevice(
                    device_name="/dev/xvda",
                    volume=ec2.BlockDeviceVolume.ebs(
                        ec2_settings.disk_gib,
                        encrypted=True,
                        volume_type=ec2.EbsDeviceVolumeType.GP3,
                        delete_on_termination=True,
                    ),
                )
            ],
            user_data=ec2.UserData.custom(
                START.format(
                    bucket=place.models.bucket_name,
                    prefix=ec2_settings.model_prefix,
                    region=self.region,
                    registry=place.repository.registry_uri,
                    image=place.repository.repository_uri_for_digest(place.digest),
                    logs=group.log_group_name,
                    gpus="--gpus all " if ec2_settings.gpu else "",
                )
            ),
        )
        instance = autoscaling.AutoScalingGroup(
            self,
            "Instance",
            auto_scaling_group_name=f"byollm-{env}-ec2",
            vpc=place.network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=place.network.private_subnets),
            launch_template=template,
            min_capacity=1,
            max_capacity=1,
            update_policy=autoscaling.UpdatePolicy.rolling_update(
                max_batch_size=1, min_instances_in_service=0
            ),
        )
        accept(instance, {"AwsSolutions-AS3": "It never scales; it is replaced when it dies."})

    def _permissions(self, place: Ec2Place, prefix: str, group: logs.ILogGroup) -> list[iam.PolicyStatement]:
        """Pull the image, read the model, write logs, and be reached by Session Manager."""
        return [
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[place.models.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [prefix, f"{prefix}*"]}},
            ),
            iam.PolicyStatement(
                actions=["s3:GetObject"], resources=[place.models.arn_for_objects(f"{prefix}*")]
            ),
            iam.PolicyStatement(actions=["kms:Decrypt"], resources=[place.data_key.key_arn]),
            iam.PolicyStatement(
                actions=["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                resources=[place.repository.repository_arn],
            ),
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[group.log_group_arn]
            ),
            iam.PolicyStatement(
                actions=["ssm:UpdateInstanceInformation"],
                resources=[f"arn:aws:ec2:{self.region}:{self.account}:instance/*"],
            ),
            # These name no resource: AWS knows none for them.
            # https://docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-create-iam-instance-profile.html
            iam.PolicyStatement(
                actions=[
                    "ecr:GetAuthorizationToken",
                    "ssmmessages:CreateControlChannel",
                    "ssmmessages:CreateDataChannel",
                    "ssmmessages:OpenControlChannel",
                    "ssmmessages:OpenDataChannel",
                ],
                resources=["*"],
            ),
        ]

    def _accept(self, role: iam.Role, place: Ec2Place, prefix: str) -> None:
        accept_objects(role, [place.models], "The model is a folder of many files.", prefix=prefix)
        accept_wildcards(role, ["*"], "AWS knows no resource for the registry's token and for sessions.")
        accept_wildcards(
            role,
            [f"arn:aws:ec2:{self.region}:{self.account}:instance/*"],
            "An instance gets its name when it starts; it tells of itself only.",
        )
