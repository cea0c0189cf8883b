"""The private network: three kinds of subnets in every zone, ways to AWS, and who may speak to whom."""

from dataclasses import dataclass

from aws_cdk import App
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from byollm.settings import AwsSettings, NetworkSettings
from stacks.base import PlatformStack, on_behalf_of
from stacks.logs import log_group

HTTPS = 443

INTERFACE_ENDPOINTS = {
    "Ecr": ec2.InterfaceVpcEndpointAwsService.ECR,
    "EcrDocker": ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
    "Logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
    "SageMakerApi": ec2.InterfaceVpcEndpointAwsService.SAGEMAKER_API,
    "SageMakerRuntime": ec2.InterfaceVpcEndpointAwsService.SAGEMAKER_RUNTIME,
    "SecretsManager": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
    "Ssm": ec2.InterfaceVpcEndpointAwsService.SSM,
    "Sts": ec2.InterfaceVpcEndpointAwsService.STS,
}


@dataclass(frozen=True, kw_only=True)
class SecurityGroups:
    """One group for each role in the network; nothing is reachable but along the flows given here."""

    load_balancer: ec2.SecurityGroup
    gateway: ec2.SecurityGroup
    frontend: ec2.SecurityGroup
    inference: ec2.SecurityGroup
    training: ec2.SecurityGroup
    endpoints: ec2.SecurityGroup


class NetworkStack(PlatformStack):
    """The VPC, its endpoints, its flow log and its security groups."""

    def __init__(
        self, app: App, *, env: str, aws: AwsSettings, network: NetworkSettings, logs_key: kms.IKey
    ) -> None:
        super().__init__(
            app, env=env, role="network", settings=aws, description="Private network of the byollm platform"
        )
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(network.cidr),
            availability_zones=list(network.zones),
            nat_gateways=network.nat_gateways,
            # Emptying the default group would take a function with rights over every group of the account;
            # instead nothing is ever put into it.
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="public",  # the load balancer and the NAT gateways
                    subnet_type=ec2.SubnetType.PUBLIC,
                    map_public_ip_on_launch=False,
                    cidr_mask=24,
                ),
                ec2.SubnetConfiguration(
                    name="private",  # what calls AWS: services, training, endpoints
                    subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS
                    if network.nat_gateways
                    else ec2.SubnetType.PRIVATE_ISOLATED,
                    cidr_mask=24,
                ),
                ec2.SubnetConfiguration(
                    name="isolated",  # what calls nobody
                    subnet_type=ec2.SubnetType.PRIVATE_ISOLATED,
                    cidr_mask=24,
                ),
            ],
        )
        self.private_subnets = self.vpc.select_subnets(subnet_group_name="private").subnets
        self.groups = self._security_groups(network)
        self._endpoints(network)
        self._flow_log(aws, logs_key)

    def _security_groups(self, network: NetworkSettings) -> SecurityGroups:
        groups = SecurityGroups(
            load_balancer=self._group("LoadBalancer", "Load balancer in front of gateway and page"),
            gateway=self._group("Gateway", "Tasks of the API gateway"),
            frontend=self._group("Frontend", "Tasks of the page"),
            inference=self._group("Inference", "Instances of the endpoint"),
            training=self._group("Training", "Instances of training jobs"),
            endpoints=self._group("Endpoints", "Interface endpoints of AWS services"),
        )
        gateway, frontend = ec2.Port.tcp(network.gateway_port), ec2.Port.tcp(network.frontend_port)
        groups.load_balancer.connections.allow_to(groups.gateway, gateway, "API requests")
        groups.load_balancer.connections.allow_to(groups.frontend, frontend, "Pages")
        groups.frontend.connections.allow_to(groups.gateway, gateway, "Chats from the page")
        for group in (groups.gateway, groups.frontend, groups.inference, groups.training):
            # An S3 gateway endpoint has public addresses, so this cannot be narrowed to the network.
            group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS), "AWS services")
            if network.interface_endpoints:
                groups.endpoints.add_ingress_rule(group, ec2.Port.tcp(HTTPS), "Calls of AWS services")
        return groups

    def _group(self, role: str, description: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self, f"{role}Group", vpc=self.vpc, description=description, allow_all_outbound=False
        )

    def _endpoints(self, network: NetworkSettings) -> None:
        self.vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        self.vpc.add_gateway_endpoint("DynamoDb", service=ec2.GatewayVpcEndpointAwsService.DYNAMODB)
        if network.interface_endpoints:
            for name, service in INTERFACE_ENDPOINTS.items():
                self.vpc.add_interface_endpoint(
                    name,
                    service=service,
                    subnets=ec2.SubnetSelection(subnet_group_name="private"),
                    security_groups=[self.groups.endpoints],
                    open=False,  # the groups say who may call
                )

    def _flow_log(self, aws: AwsSettings, key: kms.IKey) -> None:
        """Record every connection, accepted or refused."""
        group = log_group(self, "FlowLogGroup", aws=aws, key=key)
        role = iam.Role(self, "FlowLogRole", assumed_by=on_behalf_of(self, "vpc-flow-logs.amazonaws.com"))
        group.grant(role, "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams")
        # Written out because the construct library's own flow log also lets the role pass itself on.
        ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_id=self.vpc.vpc_id,
            resource_type="VPC",
            traffic_type="ALL",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=role.role_arn,
            max_aggregation_interval=60,
        )
