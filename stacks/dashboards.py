"""Dashboards: the platform, the model, the cost.

What they show is named by environment, so they hold on to no other stack.
"""

from collections.abc import Sequence

from aws_cdk import App
from aws_cdk import aws_cloudwatch as cloudwatch

from byollm.settings import AwsSettings, EndpointSpec, ObservabilitySettings
from stacks.base import PlatformStack
from stacks.metrics import Metric, of_calls, of_function, of_instances, of_queue
from stacks.widgets import HALF, Widget, alarms, graph, searched, text

BILLING_REGION = "us-east-1"
"""The one region that AWS publishes estimated charges in."""

HOUR_S, DAY_S = 3600, 86_400


class DashboardsStack(PlatformStack):
    """Three dashboards, `byollm-<env>-platform`, `-model` and `-cost`.

    Args:
        spec: the declared endpoint.
        guards: names of the alarms that guard it.
        functions: names of all functions.
    """

    def __init__(
        self,
        app: App,
        *,
        env: str,
        aws: AwsSettings,
        watching: ObservabilitySettings,
        spec: EndpointSpec,
        guards: Sequence[str],
        functions: Sequence[str],
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="dashboards",
            settings=aws,
            description="Dashboards of the byollm platform",
        )
        self._spec = spec
        self._variants = [variant.name for variant in spec.variants]
        self._add("platform", self._platform(functions))
        self._add("model", self._model(guards))
        self._add("cost", self._cost(watching, functions))

    def _add(self, name: str, widgets: Sequence[Widget]) -> None:
        cloudwatch.CfnDashboard(
            self,
            name.capitalize(),
            dashboard_name=f"byollm-{self.environment_name}-{name}",
            dashboard_body=self.to_json_string({"widgets": list(widgets)}),
        )

    def _platform(self, functions: Sequence[str]) -> list[Widget]:
        prefix = f"byollm-{self.environment_name}"
        machine = f"arn:aws:states:{self.region}:{self.account}:stateMachine:{prefix}-release"

        def of_releases(metric: str) -> Metric:
            return Metric(
                namespace="AWS/States", name=metric, dimensions={"StateMachineArn": machine}, statistic="Sum"
            )

        def of_each(metric: str, statistic: str = "Sum") -> dict[str, Metric]:
            return {
                name.removeprefix(f"{prefix}-"): of_function(name, metric, statistic) for name in functions
            }

        return [
            graph("Functions: runs", self.region, of_each("Invocations")),
            graph("Functions: errors", self.region, of_each("Errors")),
            graph("Functions: time, p99", self.region, of_each("Duration", "p99")),
            graph("Functions: throttled", self.region, of_each("Throttles")),
            graph(
                "Functions: events not taken in",
                self.region,
                {name.removeprefix(f"{prefix}-"): of_queue(f"{name}-dead") for name in functions},
            ),
            graph(
                "Releases",
                self.region,
                {
                    "started": of_releases("ExecutionsStarted"),
                    "released": of_releases("ExecutionsSucceeded"),
                    "failed": of_releases("ExecutionsFailed"),
                    "out of time": of_releases("ExecutionsTimedOut"),
                },
            ),
            searched("Services: CPU", self.region, self._services("CPUUtilization"), "Average"),
            searched("Services: memory", self.region, self._services("MemoryUtilization"), "Average"),
            searched(
                "Tables: requests refused",
                self.region,
                f'{{AWS/DynamoDB,Operation,TableName}} MetricName="ThrottledRequests" "{prefix}-storage"',
                "Sum",
            ),
        ]

    def _model(self, guards: Sequence[str]) -> list[Widget]:
        calls = {
            "calls": self._calls("Invocations", "Sum"),
            "refused (4XX)": self._calls("Invocation4XXErrors", "Sum"),
            "failed (5XX)": self._calls("Invocation5XXErrors", "Sum"),
        }
        times = {
            "model, average": self._calls("ModelLatency", "Average"),
            "model, p99": self._calls("ModelLatency", "p99"),
            "SageMaker, average": self._calls("OverheadLatency", "Average"),
        }
        under_way = (
            "ConcurrentRequestsPerCopy" if self._spec.hosting == "component" else "ConcurrentRequestsPerModel"
        )
        return [
            alarms(
                "Alarms",
                [f"arn:aws:cloudwatch:{self.region}:{self.account}:alarm:{name}" for name in guards],
            ),
            graph("Calls", self.region, _flat(calls)),
            graph("Time, in microseconds", self.region, _flat(times)),
            graph(
                "Calls under way, each instance",
                self.region,
                _flat({"most": self._calls(under_way, "Maximum")}),
            ),
            *(
                graph(f"{what} of the instances, %", self.region, self._instances(metric))
                for what, metric in (
                    ("GPU", "GPUUtilization"),
                    ("GPU memory", "GPUMemoryUtilization"),
                    ("CPU (each of them 100)", "CPUUtilization"),
                    ("Memory", "MemoryUtilization"),
                    ("Disk", "DiskUtilization"),
                )
            ),
            searched(
                "Training jobs: GPU, %",
                self.region,
                '{/aws/sagemaker/TrainingJobs,Host} MetricName="GPUUtilization"'
                f' "byollm-{self.environment_name}"',
                "Average",
            ),
        ]

    def _cost(self, watching: ObservabilitySettings, functions: Sequence[str]) -> list[Widget]:
        budget = watching.monthly_budget_usd
        return [
            text(
                f"**Budget: {budget:g} US dollars a month** over all that is tagged "
                f"`byollm:environment={self.environment_name}`; when it is spent, the endpoint scales down."
                if budget
                else "**No budget is set** (`observability.monthly_budget_usd`)."
            ),
            searched(
                "Charges of the account this month by service, US dollars",
                BILLING_REGION,
                '{AWS/Billing,Currency,ServiceName} MetricName="EstimatedCharges" Currency="USD"',
                "Maximum",
                width=HALF,
                period=6 * HOUR_S,
            ),
            # A sample a minute from each instance, whatever it says: sixty in an hour are one instance.
            graph(
                "Instances of the endpoint: minutes paid in each hour",
                self.region,
                self._instances("MemoryUtilization", "SampleCount"),
                width=HALF,
                period=HOUR_S,
            ),
            graph(
                "Calls a day", self.region, _flat({"calls": self._calls("Invocations", "Sum")}), period=DAY_S
            ),
            searched(
                "Bytes through NAT gateways of the account",
                self.region,
                '{AWS/NATGateway,NatGatewayId} MetricName="BytesOutToDestination"',
                "Sum",
                period=HOUR_S,
            ),
            searched(
                "Bytes stored",
                self.region,
                '{AWS/S3,BucketName,StorageType} MetricName="BucketSizeBytes"'
                f' "byollm-{self.environment_name}"',
                "Average",
                period=DAY_S,
            ),
            searched("Tasks of the services", self.region, self._services("CPUUtilization"), "SampleCount"),
            graph(
                "Functions: time, all runs, in milliseconds",
                self.region,
                {name: of_function(name, "Duration") for name in functions},
                period=HOUR_S,
            ),
        ]

    def _services(self, metric: str) -> str:
        cluster = f'ClusterName="byollm-{self.environment_name}"'
        return f'{{AWS/ECS,ClusterName,ServiceName}} MetricName="{metric}" {cluster}'

    def _calls(self, metric: str, statistic: str) -> dict[str, Metric]:
        """Return a metric of the calls for each variant; a component stands in for the one there is."""
        return {
            variant: of_calls(self.environment_name, self._spec, variant, metric, statistic)
            for variant in self._variants
        }

    def _instances(self, metric: str, statistic: str = "Average") -> dict[str, Metric]:
        return {
            variant: of_instances(self.environment_name, variant, metric, statistic)
            for variant in self._variants
        }


def _flat(metrics: dict[str, dict[str, Metric]]) -> dict[str, Metric]:
    """Label what there is of each variant."""
    return {
        f"{variant}: {what}": metric
        for what, variants in metrics.items()
        for variant, metric in variants.items()
    }
