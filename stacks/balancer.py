"""The load balancer in front of the services: who reaches it, how, and which path leads where."""

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_s3 as s3
from constructs import IDependable

from byollm.settings import AwsSettings, ServicesSettings
from stacks.accepted import accept
from stacks.base import PlatformStack
from stacks.firewall import add_firewall
from stacks.login import Login

HTTP, HTTPS = 80, 443

API = ("/v1/*", "/model/info", "/health")
"""Paths of the gateway that are for everybody; its metrics are not. All else is the page's."""


class Balancer:
    """An application load balancer with its listeners, its firewall, and a login where one is asked for.

    Args:
        stack: what it is part of.
        group: its security group.
        access_logs: the bucket that gets a line for each request.
    """

    def __init__(
        self,
        stack: PlatformStack,
        *,
        aws: AwsSettings,
        services: ServicesSettings,
        vpc: ec2.IVpc,
        group: ec2.ISecurityGroup,
        access_logs: s3.IBucket,
    ) -> None:
        self._stack, self._services, self._vpc, self._group = stack, services, vpc, group
        self._balancer = elb.ApplicationLoadBalancer(
            stack,
            "Balancer",
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_group_name="public"),
            internet_facing=True,
            security_group=ec2.SecurityGroup.from_security_group_id(
                stack, "BalancerGroup", group.security_group_id, mutable=False
            ),
            idle_timeout=Duration.seconds(services.idle_timeout_s),
            drop_invalid_header_fields=True,
            deletion_protection=aws.retain,
        )
        self._balancer.log_access_logs(access_logs, "balancer")
        add_firewall(stack, self._balancer.load_balancer_arn, services.rate_limit)
        self._login = Login(stack, services.domain, aws) if services.login and services.domain else None
        self._listener = self._listen()

    @property
    def full_name(self) -> str:
        """Its name in metrics."""
        name: str = self._balancer.load_balancer_full_name
        return name

    @property
    def address(self) -> str:
        """Where people and programs find it."""
        services = self._services
        scheme = "https" if services.certificate_arn else "http"
        return f"{scheme}://{services.domain or self._balancer.load_balancer_dns_name}"

    def targets(
        self,
        name: str,
        *,
        port: int,
        health: str,
        drain: Duration,
        stickiness: Duration | None = None,
        algorithm: elb.TargetGroupLoadBalancingAlgorithmType | None = None,
    ) -> elb.ApplicationTargetGroup:
        """Add a group of tasks that listen on `port` and answer `health` with 200."""
        return elb.ApplicationTargetGroup(
            self._stack,
            f"{name}Targets",
            vpc=self._vpc,
            target_type=elb.TargetType.IP,
            protocol=elb.ApplicationProtocol.HTTP,
            port=port,
            health_check=elb.HealthCheck(
                path=health,
                healthy_http_codes="200",
                interval=Duration.seconds(15),
                timeout=Duration.seconds(5),
                healthy_threshold_count=2,
                unhealthy_threshold_count=3,
            ),
            deregistration_delay=drain,
            stickiness_cookie_duration=stickiness,
            load_balancing_algorithm_type=algorithm,
        )

    def send(self, paths: tuple[str, ...], targets: elb.ApplicationTargetGroup) -> IDependable:
        """Send what programs ask under `paths` to `targets`."""
        onward = elb.ListenerAction.forward([targets])
        rule: IDependable = elb.ApplicationListenerRule(
            self._stack,
            "ApiRule",
            listener=self._listener,
            priority=10,
            conditions=[elb.ListenerCondition.path_patterns(list(paths))],
            action=self._login.for_programs(onward) if self._login else onward,
        )
        return rule

    def send_rest(self, targets: elb.ApplicationTargetGroup) -> IDependable:
        """Send all else, which people ask, to `targets`."""
        onward = elb.ListenerAction.forward([targets])
        self._listener.add_action("Page", action=self._login.for_people(onward) if self._login else onward)
        listener: IDependable = self._listener
        return listener

    def _listen(self) -> elb.ApplicationListener:
        services = self._services
        if not services.certificate_arn:
            self._admit(HTTP)
            return self._balancer.add_listener(
                "Http", port=HTTP, protocol=elb.ApplicationProtocol.HTTP, open=False
            )
        self._admit(HTTP)
        self._admit(HTTPS)
        self._balancer.add_listener(
            "Http",
            port=HTTP,
            protocol=elb.ApplicationProtocol.HTTP,
            open=False,
            default_action=elb.ListenerAction.redirect(protocol="HTTPS", port=str(HTTPS), permanent=True),
        )
        if self._login:
            ec2.CfnSecurityGroupEgress(
                self._stack,
                "ToCognito",
                group_id=self._group.security_group_id,
                description="Cognito, which has public addresses",
                ip_protocol="tcp",
                cidr_ip="0.0.0.0/0",
                from_port=HTTPS,
                to_port=HTTPS,
            )
        return self._balancer.add_listener(
            "Https",
            port=HTTPS,
            protocol=elb.ApplicationProtocol.HTTPS,
            certificates=[elb.ListenerCertificate.from_arn(services.certificate_arn)],
            open=False,
        )

    def _admit(self, port: int) -> None:
        """Let the sources of the settings reach `port`."""
        for number, source in enumerate(self._services.sources):
            rule = ec2.CfnSecurityGroupIngress(
                self._stack,
                f"From{number}Port{port}",
                group_id=self._group.security_group_id,
                description="Page and API",
                ip_protocol="tcp",
                cidr_ip=source,
                from_port=port,
                to_port=port,
            )
            if source == "0.0.0.0/0":
                accept(rule, {"AwsSolutions-EC23": "The page is public, unless services.sources narrows it."})
