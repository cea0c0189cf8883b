"""What Fargate, the load balancer and the pipeline would refuse is refused at once, with the reason."""

from typing import Any

import pytest

from byollm.settings import DeliverySettings, ImagesSettings, ServicesSettings, Settings, SettingsError
from byollm.settings.services import TaskSettings

CERTIFICATE = "arn:aws:acm:ca-central-1:123456789012:certificate/0a1b"
CONNECTION = "arn:aws:codeconnections:ca-central-1:123456789012:connection/0a1b"


@pytest.mark.parametrize(
    ("cpu", "memory_mib"), [(256, 512), (256, 2048), (512, 1024), (1024, 3072), (4096, 30720)]
)
def test_sizes_that_fargate_has_are_taken(cpu: int, memory_mib: int) -> None:
    assert TaskSettings(cpu=cpu, memory_mib=memory_mib).cpu == cpu


@pytest.mark.parametrize(
    ("cpu", "memory_mib"), [(300, 1024), (256, 4096), (512, 512), (1024, 2500), (4096, 4096)]
)
def test_sizes_that_fargate_does_not_have_are_refused(cpu: int, memory_mib: int) -> None:
    with pytest.raises(SettingsError, match="Fargate"):
        TaskSettings().override(cpu=cpu, memory_mib=memory_mib)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"login": True}, "Set certificate_arn and domain"),
        ({"login": True, "certificate_arn": CERTIFICATE}, "Set certificate_arn and domain"),
        ({"login": True, "domain": "chat.example.org"}, "Set certificate_arn and domain"),
        ({"minimum": 11}, "minimum 11 is more than maximum 10"),
        ({"sources": ("10.0.0.1/8",)}, "host bits"),
        ({"sources": ("::/0",)}, "IPv4"),
        ({"sources": ()}, "at least 1"),
        ({"idle_timeout_s": 5000}, "4000"),
    ],
)
def test_what_the_load_balancer_would_refuse_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        ServicesSettings().override(**given)


def test_a_login_over_https_is_taken() -> None:
    assert ServicesSettings(login=True, certificate_arn=CERTIFICATE, domain="chat.example.org").login


def test_a_certificate_of_another_region_is_refused() -> None:
    services = ServicesSettings(certificate_arn=CERTIFICATE.replace("ca-central-1", "us-east-1"))
    with pytest.raises(ValueError, match=r"is not in aws\.region ca-central-1"):
        Settings(services=services)


def test_images_are_named_by_digest() -> None:
    digest = "sha256:" + "a" * 64
    assert ImagesSettings(gateway=digest).gateway == digest
    with pytest.raises(SettingsError, match="gateway"):
        ImagesSettings().override(gateway="latest")


def test_a_pipeline_needs_a_repository() -> None:
    assert DeliverySettings(connection_arn=CONNECTION, repository="owner/name").repository == "owner/name"
    with pytest.raises(SettingsError, match="repository has to be too"):
        DeliverySettings().override(connection_arn=CONNECTION)
