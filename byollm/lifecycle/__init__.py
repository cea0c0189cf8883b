"""The endpoint's life: published, deployed, tried, rolled back, removed; a reconciler over SageMaker."""

from byollm.lifecycle.artefact import Artefact, Artefacts
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.errors import EndpointFailed, LifecycleError, SmokeTestFailed
from byollm.lifecycle.progress import Progress, settle
from byollm.lifecycle.reconciler import Reconciler

__all__ = [
    "Artefact",
    "Artefacts",
    "Deployment",
    "EndpointFailed",
    "LifecycleError",
    "Progress",
    "Reconciler",
    "SmokeTestFailed",
    "settle",
]
