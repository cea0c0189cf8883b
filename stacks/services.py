"""The services: the gateway and the page on Fargate, behind one load balancer."""

from dataclasses import dataclass

from aws_cdk import App, CfnOutput, Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_servicediscovery as discovery

from byollm.settings import AwsSettings, EndpointSpec, NetworkSettings, ServicesSettings
from byollm.settings.services import TaskSettings
from stacks.accepted import accept, accept_wildcards
from stacks.balancer import API, Balancer
from stacks.base import PlatformStack
from stacks.guards import Guarded, guard_balancer, guard_service
from stacks.logs import log_group
from stacks.network import NetworkStack

USER = "10001:10001"  # of the images
LONGEST_STREAM = Duration.seconds(490)


@dataclass(frozen=True, kw_only=True)
class ServicesPlace:
    """Where the services stand, and what they are made from."""

    network: NetworkStack
    repositories: dict[str, ecr.Repository]
    digests: dict[str, str]
    access_logs: s3.IBucket
    logs_key: kms.IKey
    guarded: Guarded


class ServicesStack(PlatformStack):
    """Cluster, load balancer, and the two services with their scaling."""

    def __init__(
        self,
        app: App,
        *,
        env: str,
        aws: AwsSettings,
        network: NetworkSettings,
        services: ServicesSettings,
        endpoint: EndpointSpec,
        place: ServicesPlace,
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="services",
            settings=aws,
            description="Gateway and page of the byollm platform",
        )
        self._aws, self._place, self._services = aws, place, services
        self.balancer = Balancer(
            self,
            aws=aws,
            services=services,
            vpc=place.network.vpc,
            group=place.network.groups.load_balancer,
            access_logs=place.access_logs,
        )
        self.cluster = ecs.Cluster(
            self,
            "Cluster",
            cluster_name=f"byollm-{env}",
            vpc=place.network.vpc,
            container_insights_v2=ecs.ContainerInsights.ENABLED,
        )
        # Inside, the page finds the gateway by name: login, firewall and rate limit are for those outside.
        self._names = discovery.HttpNamespace(self, "Names", name=f"byollm-{env}")
        self.gateway = self._gateway(network.gateway_port, endpoint)
        self.frontend = self._frontend(network)
        guard_balancer(self, self.balancer.full_name, place.guarded)
        CfnOutput(self, "Address", value=self.balancer.address, description="Page and API")

    def _gateway(self, port: int, endpoint: EndpointSpec) -> ecs.FargateService:
        name = f"byollm-{self.environment_name}"
        environment = {
            "BYOLLM__AWS__REGION": self.region,
            "BYOLLM__GATEWAY__ENDPOINT": name,
            "BYOLLM__GATEWAY__HOST": "0.0.0.0",  # noqa: S104 - inside its own network interface
            "BYOLLM__GATEWAY__PORT": str(port),
        }
        invoked = [f"endpoint/{name}"]
        if endpoint.hosting == "component":
            environment["BYOLLM__GATEWAY__COMPONENT"] = f"{name}-main"
            invoked.append(f"inference-component/{name}-main")
        task = self._task("gateway", self._services.gateway, port, environment, ["gateway"])
        task.task_role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"],
                resources=[f"arn:aws:sagemaker:{self.region}:{self.account}:{what}" for what in invoked],
            )
        )
        targets = self.balancer.targets(
            "Gateway",
            port=port,
            health="/health",
            drain=LONGEST_STREAM,
            algorithm=elb.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
        )
        rule = self.balancer.send(API, targets)
        reached_as = ecs.ServiceConnectService(
            port_mapping_name="http",
            discovery_name="gateway",
            dns_name="gateway",
            port=port,
            # By default a request has 15 s, and a stream takes minutes.
            per_request_timeout=Duration.seconds(0),
            idle_timeout=Duration.seconds(self._services.idle_timeout_s),
        )
        service = self._service("gateway", task, self._place.network.groups.gateway, [reached_as])
        service.attach_to_application_target_group(targets)
        service.node.add_dependency(rule)
        self._scale(service, targets)
        guard_service(self, "gateway", targets, self._place.guarded)
        return service

    def _frontend(self, network: NetworkSettings) -> ecs.FargateService:
        port = network.frontend_port
        environment = {
            "BYOLLM__PAGE__API": f"http://gateway:{network.gateway_port}",
            "BYOLLM__PAGE__HOST": "0.0.0.0",  # noqa: S104
            "BYOLLM__PAGE__PORT": str(port),
        }
        task = self._task("frontend", self._services.frontend, port, environment, [])
        # The page keeps what is uploaded there while it is looked at; all else is read-only.
        task.add_volume(name="tmp")
        assert task.default_container is not None
        task.default_container.add_mount_points(
            ecs.MountPoint(container_path="/tmp", source_volume="tmp", read_only=False)  # noqa: S108
        )
        targets = self.balancer.targets(
            "Frontend",
            port=port,
            health="/",
            drain=Duration.seconds(60),
            # A page's events come from the task that it was opened on.
            stickiness=Duration.hours(12),
        )
        listener = self.balancer.send_rest(targets)
        service = self._service("frontend", task, self._place.network.groups.frontend, [])
        service.attach_to_application_target_group(targets)
        service.node.add_dependency(listener)
        service.node.add_dependency(
            self.gateway
        )  # Service Connect tells new tasks of services that are there
        self._scale(service, targets)
        guard_service(self, "frontend", targets, self._place.guarded)
        return service

    def _task(
        self, name: str, size: TaskSettings, port: int, environment: dict[str, str], command: list[str]
    ) -> ecs.FargateTaskDefinition:
        task = ecs.FargateTaskDefinition(
            self,
            f"{name.capitalize()}Task",
            family=f"byollm-{self.environment_name}-{name}",
            cpu=size.cpu,
            memory_limit_mib=size.memory_mib,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.X86_64,
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
        )
        task.add_container(
            name,
            image=ecs.ContainerImage.from_ecr_repository(
                self._place.repositories[name], self._place.digests[name]
            ),
            command=command or None,
            environment=environment,
            readonly_root_filesystem=True,
            user=USER,
            port_mappings=[
                ecs.PortMapping(container_port=port, name="http", app_protocol=ecs.AppProtocol.http)
            ],
            stop_timeout=Duration.seconds(120),  # the most that Fargate gives
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix=name,
                log_group=log_group(
                    self,
                    f"{name.capitalize()}Logs",
                    aws=self._aws,
                    key=self._place.logs_key,
                    name=f"/aws/ecs/byollm-{self.environment_name}/{name}",
                ),
                mode=ecs.AwsLogDriverMode.NON_BLOCKING,
            ),
        )
        accept(task, {"AwsSolutions-ECS2": "What it is told is no secret: names, ports and addresses."})
        assert task.execution_role is not None
        accept_wildcards(task.execution_role, ["*"], "AWS knows no resource for the registry's token.")
        return task

    def _service(
        self,
        name: str,
        task: ecs.FargateTaskDefinition,
        group: ec2.ISecurityGroup,
        reached_as: list[ecs.ServiceConnectService],
    ) -> ecs.FargateService:
        # Imported, because the network stack says all that is allowed, and a rule must not stand twice.
        frozen = ec2.SecurityGroup.from_security_group_id(
            self, f"{name.capitalize()}Group", group.security_group_id, mutable=False
        )
        return ecs.FargateService(
            self,
            name.capitalize(),
            service_name=name,
            cluster=self.cluster,
            task_definition=task,
            vpc_subnets=ec2.SubnetSelection(subnets=self._place.network.private_subnets),
            security_groups=[frozen],
            assign_public_ip=False,
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
            min_healthy_percent=100,
            max_healthy_percent=200,
            health_check_grace_period=Duration.seconds(120),
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
            service_connect_configuration=ecs.ServiceConnectProps(
                namespace=self._names.namespace_arn, services=reached_as
            ),
        )

    def _scale(self, service: ecs.FargateService, targets: elb.ApplicationTargetGroup) -> None:
        settings = self._services
        tasks = service.auto_scale_task_count(min_capacity=settings.minimum, max_capacity=settings.maximum)
        tasks.scale_on_request_count(
            "Requests", requests_per_target=settings.requests_per_target, target_group=targets
        )
        tasks.scale_on_cpu_utilization("Cpu", target_utilization_percent=settings.cpu_percent)
        tasks.scale_on_memory_utilization("Memory", target_utilization_percent=settings.memory_percent)
