"""What a load balancer counts, until it is published."""

from collections import Counter, defaultdict

from byollm.local.balancer.state import Document
from byollm.local.metrics import Metrics

NAMESPACE = "AWS/ApplicationELB"
MOST_VALUES = (
    150  # of one datum. https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
)


class Counts:
    """Metrics of the time since they were last published: a datum each, however many requests there were."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], Counter[float]] = defaultdict(Counter)

    def add(self, metric: str, value: float, *of: Document) -> None:
        """Note one value of a metric of these together, such as a load balancer and a target group."""
        # three digits are enough for seconds, and keep the number of different values small
        self._values[metric, tuple(_dimension(document) for document in of)][round(value, 3)] += 1

    def publish(self) -> None:
        """Send all to CloudWatch, and begin anew."""
        taken, self._values = self._values, defaultdict(Counter)
        for (metric, dimensions), values in taken.items():
            unit = "Seconds" if metric.endswith("Time") else "Count"
            found = list(values.items())
            for begin in range(0, len(found), MOST_VALUES):
                part = dict(found[begin : begin + MOST_VALUES])
                self._metrics.put(NAMESPACE, metric, part, dict(dimensions), unit)


def _dimension(document: Document) -> tuple[str, str]:
    if "LoadBalancerName" in document:
        return "LoadBalancer", document["LoadBalancerArn"].partition(":loadbalancer/")[2]
    return "TargetGroup", document["TargetGroupArn"].rpartition(":")[2]
