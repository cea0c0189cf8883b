"""The metrics that alarms and dashboards read, by the names that AWS publishes them under."""

from collections.abc import Mapping
from dataclasses import dataclass

from byollm.settings import EndpointSpec

MICROSECONDS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One series of CloudWatch, and how it is summed up over a period."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str


def of_function(name: str, metric: str, statistic: str = "Sum") -> Metric:
    """Return a metric of a Lambda function, such as `Errors`."""
    return Metric(namespace="AWS/Lambda", name=metric, dimensions={"FunctionName": name}, statistic=statistic)


def of_queue(name: str) -> Metric:
    """Return how many messages wait in a queue."""
    return Metric(
        namespace="AWS/SQS",
        name="ApproximateNumberOfMessagesVisible",
        dimensions={"QueueName": name},
        statistic="Maximum",
    )


def of_instances(env: str, variant: str, metric: str, statistic: str = "Average") -> Metric:
    """Return a metric of the endpoint's instances, such as `MemoryUtilization`.

    https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
    """
    return Metric(
        namespace="/aws/sagemaker/Endpoints",
        name=metric,
        dimensions={"EndpointName": f"byollm-{env}", "VariantName": variant},
        statistic=statistic,
    )


def of_calls(env: str, spec: EndpointSpec, variant: str, metric: str, statistic: str) -> Metric:
    """Return a metric of the calls of a variant, or of the component that stands in for it.

    A call counts 1 in `Invocation5XXErrors` where it failed and 0 where it did not: the average is the share
    of calls that failed. Latencies are microseconds.
    """
    dimensions = (
        {"InferenceComponentName": f"byollm-{env}-main"}
        if spec.hosting == "component"
        else {"EndpointName": f"byollm-{env}", "VariantName": variant}
    )
    return Metric(namespace="AWS/SageMaker", name=metric, dimensions=dimensions, statistic=statistic)


def cores(instance_type: str) -> int:
    """Return how many CPUs an instance has, each of which counts 100 in `CPUUtilization`.

    In every family that an endpoint may run on, an `xlarge` has four.
    """
    size = instance_type.rpartition(".")[2].removesuffix("xlarge")
    return 4 * int(size or 1)
