"""What every function has: its log, its trace and its metrics, and clients made once for all its runs.

None of them remembers what it did: a version is named by its content, and the reconciler looks at what is
there. So an event that comes twice does nothing twice, and no table of events is needed.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from byollm.aws import Clients
from byollm.lifecycle import Deployment

Result = TypeVar("Result")
Handler = Callable[[dict[str, Any], LambdaContext], Result]

logger = Logger()
tracer = Tracer()
metrics = Metrics()
clients = Clients()


def observed(handle: Handler[Result]) -> Handler[Result]:
    """Log, trace and count a function's runs."""
    counted: Any = metrics.log_metrics(capture_cold_start_metric=True)(handle)
    traced: Any = tracer.capture_lambda_handler(counted, capture_response=False)
    logged: Handler[Result] = logger.inject_lambda_context(traced)
    return logged


def count(name: str, value: int = 1) -> None:
    """Add to a metric of the function."""
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)


def deployment() -> Deployment:
    """Return the endpoint that this environment declares."""
    return Deployment.from_environment()
