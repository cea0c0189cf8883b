"""The endpoint's life: published, deployed, tried, rolled back, removed; a reconciler over SageMaker."""

from byollm.lifecycle.artefact import Artefact, Artefacts
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.errors import EndpointFailed, LifecycleError, SmokeTestFailed
from byollm.lifecycle.progress import Progress, hasten, settle
from byollm.lifecycle.publish import ModelFolder
from byollm.lifecycle.reconciler import Reconciler
from byollm.lifecycle.versions import Versions

__all__ = [
    "Artefact",
    "Artefacts",
    "Deployment",
    "EndpointFailed",
    "LifecycleError",
    "ModelFolder",
    "Progress",
    "Reconciler",
    "SmokeTestFailed",
    "Versions",
    "hasten",
    "settle",
]
