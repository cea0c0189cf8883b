"""What a target tracking policy watches: predefined metrics by their name, others as they are described.

https://docs.aws.amazon.com/autoscaling/application/APIReference/API_PredefinedMetricSpecification.html
"""

from dataclasses import dataclass

from byollm.local.protocol import AwsError, Members

VARIANT = "sagemaker:variant:DesiredInstanceCount"
COMPONENT = "sagemaker:inference-component:DesiredCopyCount"
SERVICE = "ecs:service:DesiredCount"

MINUTE, HIGH_RESOLUTION = 60, 10


@dataclass(frozen=True)
class Predefined:
    """A metric that one kind of target has.

    Args:
        dimension: the scalable dimension it is for.
        dimensions: the metric's dimensions, whose values are parts of the resource's id, from its end.
    """

    dimension: str
    namespace: str
    name: str
    statistic: str
    period: int
    dimensions: tuple[str, ...]


_VARIANT = ("EndpointName", "VariantName")
_COMPONENT = ("InferenceComponentName",)
_SERVICE = ("ClusterName", "ServiceName")

PREDEFINED = {
    "SageMakerVariantInvocationsPerInstance": Predefined(
        VARIANT, "AWS/SageMaker", "InvocationsPerInstance", "Sum", MINUTE, _VARIANT
    ),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": Predefined(
        VARIANT, "AWS/SageMaker", "ConcurrentRequestsPerModel", "Maximum", HIGH_RESOLUTION, _VARIANT
    ),
    "SageMakerInferenceComponentInvocationsPerCopy": Predefined(
        COMPONENT, "AWS/SageMaker", "InvocationsPerCopy", "Sum", MINUTE, _COMPONENT
    ),
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": Predefined(
        COMPONENT, "AWS/SageMaker", "ConcurrentRequestsPerCopy", "Maximum", HIGH_RESOLUTION, _COMPONENT
    ),
    "ECSServiceAverageCPUUtilization": Predefined(
        SERVICE, "AWS/ECS", "CPUUtilization", "Average", MINUTE, _SERVICE
    ),
    "ECSServiceAverageMemoryUtilization": Predefined(
        SERVICE, "AWS/ECS", "MemoryUtilization", "Average", MINUTE, _SERVICE
    ),
    "ALBRequestCountPerTarget": Predefined(
        SERVICE, "AWS/ApplicationELB", "RequestCountPerTarget", "Sum", MINUTE, ("LoadBalancer", "TargetGroup")
    ),
}


def watched(configuration: Members, resource: str, dimension: str) -> tuple[Members, int]:
    """Return the part of an alarm's definition that says what is measured, and the period in seconds.

    Args:
        configuration: a `TargetTrackingScalingPolicyConfiguration`.
        resource: the id of what is scaled.

    Raises:
        AwsError: no metric, two, or one that this target does not have.
    """
    predefined = configuration.get("PredefinedMetricSpecification")
    customized = configuration.get("CustomizedMetricSpecification")
    if (predefined is None) == (customized is None):
        raise AwsError(
            "ValidationException",
            "Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must be given",
        )
    if predefined is not None:
        return _predefined(predefined, resource, dimension)
    return _customized(customized or {}), MINUTE


def _predefined(given: Members, resource: str, dimension: str) -> tuple[Members, int]:
    name = given["PredefinedMetricType"]
    metric = PREDEFINED.get(name)
    if metric is None:
        raise AwsError("ValidationException", f"Predefined metric {name} is not emulated (docs/local.md)")
    if metric.dimension != dimension:
        raise AwsError("ValidationException", f"Predefined metric {name} is not for {dimension}")
    values = resource.split("/")
    if metric.name == "RequestCountPerTarget":
        values = _balanced(given.get("ResourceLabel", ""))
    elif "variant" in values:
        values.remove("variant")
    values = values[-len(metric.dimensions) :]
    return {
        "Namespace": metric.namespace,
        "MetricName": metric.name,
        "Statistic": metric.statistic,
        "Period": metric.period,
        "Dimensions": [
            {"Name": name, "Value": value} for name, value in zip(metric.dimensions, values, strict=True)
        ],
    }, metric.period


def _balanced(label: str) -> list[str]:
    """Split `app/<name>/<id>/targetgroup/<name>/<id>` into the load balancer and the target group."""
    parts = label.split("/")
    if len(parts) != 6 or parts[0] != "app" or parts[3] != "targetgroup":
        raise AwsError(
            "ValidationException",
            "ALBRequestCountPerTarget needs the ResourceLabel "
            f"app/<load balancer>/<id>/targetgroup/<target group>/<id>, not {label!r}",
        )
    return ["/".join(parts[:3]), "/".join(parts[3:])]


def _customized(given: Members) -> Members:
    if queries := given.get("Metrics"):
        return {"Metrics": [_query(query) for query in queries]}
    if not {"MetricName", "Namespace", "Statistic"} <= given.keys():
        raise AwsError(
            "ValidationException", "A customized metric needs MetricName, Namespace and Statistic, or Metrics"
        )
    kept = ("MetricName", "Namespace", "Statistic", "Dimensions", "Unit")
    return {**{key: given[key] for key in kept if key in given}, "Period": MINUTE}


def _query(given: Members) -> Members:
    """Turn a policy's metric query, which has no period of its own, into CloudWatch's."""
    if "MetricStat" not in given:
        return {**given, "Period": MINUTE}
    return {**given, "MetricStat": {**given["MetricStat"], "Period": MINUTE}}
