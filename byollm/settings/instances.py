"""The instance types and host images that an endpoint may name, and what a model finds there."""

from dataclasses import dataclass

GPU_MEMORY_GIB = {"T4": 15, "A10G": 22, "L4": 22, "L40S": 44, "A100": 39, "H100": 79, "H200": 139}
"""What is left of a GPU's memory after error correction and the driver's own part, rounded down."""


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """What one instance has; the memory of a GPU is that of each."""

    memory_gib: int
    gpu: str | None = None
    gpus: int = 0

    @property
    def model_memory_gib(self) -> int:
        """Where one copy of a model has to fit: one GPU, or the instance's memory where there is none."""
        return GPU_MEMORY_GIB[self.gpu] if self.gpu else self.memory_gib

    @property
    def local_disks(self) -> bool:
        """Whether its disks are built in: the host encrypts those itself, and SageMaker refuses a key.

        All GPU families named here have them, no other has.
        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html
        """
        return self.gpus > 0


def _family(prefix: str, gpu: str | None, sizes: dict[str, tuple[int, int]]) -> dict[str, InstanceType]:
    return {
        f"ml.{prefix}.{size}": InstanceType(memory_gib=memory, gpu=gpu, gpus=gpus)
        for size, (memory, gpus) in sizes.items()
    }


# Sizes as (memory in GiB, GPUs). https://aws.amazon.com/sagemaker/ai/pricing/, https://aws.amazon.com/ec2/instance-types/
INSTANCE_TYPES = {
    **_family("c7i", None, {"xlarge": (8, 0), "2xlarge": (16, 0), "4xlarge": (32, 0), "8xlarge": (64, 0)}),
    **_family("m7i", None, {"xlarge": (16, 0), "2xlarge": (32, 0), "4xlarge": (64, 0), "8xlarge": (128, 0)}),
    **_family(
        "g4dn", "T4", {"xlarge": (16, 1), "2xlarge": (32, 1), "4xlarge": (64, 1), "12xlarge": (192, 4)}
    ),
    **_family(
        "g5",
        "A10G",
        {
            "xlarge": (16, 1),
            "2xlarge": (32, 1),
            "4xlarge": (64, 1),
            "8xlarge": (128, 1),
            "16xlarge": (256, 1),
            "12xlarge": (192, 4),
            "24xlarge": (384, 4),
            "48xlarge": (768, 8),
        },
    ),
    **_family(
        "g6",
        "L4",
        {
            "xlarge": (16, 1),
            "2xlarge": (32, 1),
            "4xlarge": (64, 1),
            "8xlarge": (128, 1),
            "12xlarge": (192, 4),
            "24xlarge": (384, 4),
            "48xlarge": (768, 8),
        },
    ),
    **_family(
        "g6e", "L40S", {"xlarge": (32, 1), "2xlarge": (64, 1), "4xlarge": (128, 1), "12xlarge": (384, 4)}
    ),
    **_family("p4d", "A100", {"24xlarge": (1152, 8)}),
    **_family("p5", "H100", {"48xlarge": (2048, 8)}),
    **_family("p5e", "H200", {"48xlarge": (2048, 8)}),
}

DEFAULT_HOST_CUDA = (11, 4)
"""CUDA of the driver on a GPU host for which no image is named."""

HOST_IMAGES = {
    "al2-ami-sagemaker-inference-gpu-2": (12, 2),
    "al2-ami-sagemaker-inference-gpu-2-1": (12, 2),
    "al2-ami-sagemaker-inference-gpu-3-1": (12, 4),
    "al2023-ami-sagemaker-inference-gpu-4-1": (13, 0),
}
"""Host images for GPUs, with the newest CUDA that their driver runs.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html"""
