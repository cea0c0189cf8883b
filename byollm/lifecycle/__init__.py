"""The endpoint's life: published, deployed, tried, rolled back, removed; a reconciler over SageMaker."""

from byollm.lifecycle.deployment import Deployment

__all__ = ["Deployment"]
