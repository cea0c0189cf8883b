"""One GPU instance of EC2 that serves a model without SageMaker."""

from typing import Annotated

from pydantic import Field

from byollm.settings.base import Section


class Ec2Settings(Section):
    """The inference image on one instance of EC2; off by default."""

    model_prefix: Annotated[str, Field(pattern=r"^[\w./-]+/$")] | None = None
    """Folder of the model in the bucket of models, such as `byollm-tiny/1/`. Setting it, and
    `images.inference`, makes the instance."""
    instance_type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$")] = "g5.xlarge"
    """Instance type of EC2."""
    image_parameter: Annotated[str, Field(pattern=r"^/aws/service/[\w./-]+$")] = (
        "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
    )
    """Public parameter that names the machine image: one with Docker, NVIDIA's driver and its container
    toolkit, which CloudFormation reads when it deploys."""
    disk_gib: Annotated[int, Field(ge=80, le=16_384)] = 100
    """Disk for the machine image, the container and the model."""
    gpu: bool = True
    """Whether the container gets the instance's GPUs."""
