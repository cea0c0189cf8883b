"""An environment with everything on that settings leave off: services, pipeline, a lone instance."""

from dataclasses import replace
from pathlib import Path

from byollm.settings import (
    DeliverySettings,
    Ec2Settings,
    ImagesSettings,
    ServicesSettings,
    Settings,
    load_settings,
)
from tests.stacks.support import Synthesis, synthesise

WHOLE = "whole"
OPTIONAL = ("delivery", "ec2", "services")
"""The stacks that this environment has more than others."""

DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGES = ImagesSettings(inference=DIGEST, gateway=DIGEST, frontend=DIGEST)


def whole_settings() -> Settings:
    """Return dev's settings with all of it on."""
    here = "ca-central-1:123456789012"
    return load_settings("dev").model_copy(
        update={
            "images": IMAGES,
            "services": ServicesSettings(
                login=True,
                certificate_arn=f"arn:aws:acm:{here}:certificate/0a1b2c3d",
                domain="chat.example.org",
                sources=("192.0.2.0/24", "0.0.0.0/0"),
            ),
            "delivery": DeliverySettings(
                connection_arn=f"arn:aws:codeconnections:{here}:connection/0a1b2c3d",
                repository="owner/name",
                approvers=("lead@example.org",),
            ),
            "ec2": Ec2Settings(model_prefix="byollm-tiny/1/"),
        }
    )


def synthesise_whole(directory: Path) -> Synthesis:
    """Synthesise it, and return the stacks that others do not have."""
    synthesis = synthesise(WHOLE, directory, whole_settings())
    return replace(synthesis, templates={role: synthesis.templates[role] for role in OPTIONAL})
