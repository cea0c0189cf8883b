"""The checks by name, in the order they are shown."""

from collections.abc import Callable, Iterable

from byollm.doctor import account, capacity, connections, model, names, tools
from byollm.doctor.finding import Finding
from byollm.doctor.patient import Patient
from byollm.doctor.prices import prices

Check = Callable[[Patient], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "credentials": account.credentials,
    "clock": account.clock,
    "node": tools.node,
    "cdk": tools.cdk,
    "sdk": tools.sdk,
    "bootstrap": account.bootstrap,
    "stacks": names.stacks,
    "names": names.names,
    "leftovers": names.leftovers,
    "instance types": capacity.instance_types,
    "SageMaker quotas": capacity.sagemaker_quotas,
    "network quotas": capacity.network_quotas,
    "function quota": capacity.function_quota,
    "service roles": account.linked_roles,
    "host": model.host,
    "model": model.model_fits,
    "certificate": connections.certificate,
    "exposure": connections.exposure,
    "connection": connections.connection,
    "prices": prices,
}

REAL_AWS_ONLY = (
    "instance types",
    "SageMaker quotas",
    "network quotas",
    "function quota",
    "service roles",
    "connection",
)
"""What an emulated AWS knows nothing of."""


def checks_for(patient: Patient) -> dict[str, Check]:
    """Return those that its AWS can answer."""
    return {name: check for name, check in CHECKS.items() if not (patient.emulated and name in REAL_AWS_ONLY)}
