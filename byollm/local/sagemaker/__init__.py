"""SageMaker, emulated: its control plane, and endpoints and jobs that really run as containers."""

from byollm.local.sagemaker.service import SageMaker

__all__ = ["SageMaker"]
