"""Alarms that guard the services behind the load balancer."""

from dataclasses import dataclass

from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_sns as sns

from byollm.settings import ObservabilitySettings
from byollm.settings.endpoint import RolloutSpec
from stacks.alarms import alarm
from stacks.base import PlatformStack
from stacks.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """What the services may do to whoever asks before somebody is told, and who is told."""

    watching: ObservabilitySettings
    limits: RolloutSpec
    topic: sns.ITopic


def guard_balancer(stack: PlatformStack, balancer: str, guarded: Guarded) -> None:
    """Watch what the load balancer itself answers with: nobody behind it counts that."""
    alarm(
        stack,
        "balancer-errors",
        name=f"byollm-{stack.environment_name}-balancer-errors",
        description=f"No task of byollm-{stack.environment_name} takes requests, or they break off",
        metric=Metric(
            namespace="AWS/ApplicationELB",
            name="HTTPCode_ELB_5XX_Count",
            dimensions={"LoadBalancer": balancer},
            statistic="Sum",
        ),
        above=0,
        topic=guarded.topic,
    )


def guard_service(
    stack: PlatformStack, name: str, targets: elb.ApplicationTargetGroup, guarded: Guarded
) -> None:
    """Watch the service `name` of the environment's cluster: its tasks, and what they answer."""
    watching, limits = guarded.watching, guarded.limits

    def of_tasks(metric: str) -> Metric:
        dimensions = {"ClusterName": f"byollm-{stack.environment_name}", "ServiceName": name}
        return Metric(namespace="AWS/ECS", name=metric, dimensions=dimensions, statistic="Average")

    def of_answers(metric: str, statistic: str) -> Metric:
        dimensions = {
            "LoadBalancer": targets.first_load_balancer_full_name,
            "TargetGroup": targets.target_group_full_name,
        }
        return Metric(namespace="AWS/ApplicationELB", name=metric, dimensions=dimensions, statistic=statistic)

    for what, metric, above, description, percent_of in (
        (
            "cpu",
            of_tasks("CPUUtilization"),
            watching.cpu_percent,
            f"CPU above {watching.cpu_percent} %",
            None,
        ),
        (
            "memory",
            of_tasks("MemoryUtilization"),
            watching.memory_percent,
            f"Memory above {watching.memory_percent} %",
            None,
        ),
        (
            "errors",
            of_answers("HTTPCode_Target_5XX_Count", "Sum"),
            limits.error_percent,
            f"More than {limits.error_percent:g} % of requests fail",
            of_answers("RequestCount", "Sum"),
        ),
        (
            "latency",
            of_answers("TargetResponseTime", "Average"),
            limits.latency_s,
            f"Answers take more than {limits.latency_s:g} s to begin",
            None,
        ),
        ("health", of_answers("UnHealthyHostCount", "Maximum"), 0, "A task fails its health check", None),
    ):
        alarm(
            stack,
            f"{name}-{what}",
            name=f"byollm-{stack.environment_name}-{name}-{what}",
            description=f"Service {name} of byollm-{stack.environment_name}: {description}",
            metric=metric,
            above=above,
            percent_of=percent_of,
            topic=guarded.topic,
        )
