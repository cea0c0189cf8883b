"""Which images are deployed: by digest, so that what was tested is what runs."""

from typing import Annotated

from pydantic import Field

from byollm.settings.base import Section

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class ImagesSettings(Section):
    """Digests of the images in the environment's own repositories, `byollm-<env>/<image>`."""

    inference: Digest | None = None
    """The model server; the EC2 stack needs it. The endpoint's image comes with each model version."""
    training: Digest | None = None
    """What training jobs run."""
    gateway: Digest | None = None
    """The API gateway. Without it and the page's image, the services are not deployed."""
    frontend: Digest | None = None
    """The page."""
