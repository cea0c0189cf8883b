"""One typed tree of settings, validated before anything is built."""

from typing import TYPE_CHECKING, Any

from byollm.settings.aws import AwsSettings
from byollm.settings.base import Section
from byollm.settings.data import DataSettings
from byollm.settings.delivery import DeliverySettings
from byollm.settings.ec2 import Ec2Settings
from byollm.settings.endpoint import EndpointSpec
from byollm.settings.engine import EngineSettings
from byollm.settings.errors import ByollmError, SettingsError
from byollm.settings.gateway import GatewaySettings
from byollm.settings.images import ImagesSettings
from byollm.settings.jobs import JobsSettings
from byollm.settings.network import NetworkSettings
from byollm.settings.observability import ObservabilitySettings
from byollm.settings.page import PageSettings
from byollm.settings.server import ServerSettings
from byollm.settings.services import ServicesSettings
from byollm.settings.storage import StorageSettings
from byollm.settings.training import FinetuneSettings, PretrainSettings
from byollm.settings.tree import Settings

if TYPE_CHECKING:
    from byollm.settings.load import REPOSITORY, load_settings

__all__ = [
    "REPOSITORY",
    "AwsSettings",
    "ByollmError",
    "DataSettings",
    "DeliverySettings",
    "Ec2Settings",
    "EndpointSpec",
    "EngineSettings",
    "FinetuneSettings",
    "GatewaySettings",
    "ImagesSettings",
    "JobsSettings",
    "NetworkSettings",
    "ObservabilitySettings",
    "PageSettings",
    "PretrainSettings",
    "Section",
    "ServerSettings",
    "ServicesSettings",
    "Settings",
    "SettingsError",
    "StorageSettings",
    "load_settings",
]


def __getattr__(name: str) -> Any:
    """Import what reads YAML only when it is asked for: functions on AWS go without."""
    if name in ("REPOSITORY", "load_settings"):
        from byollm.settings import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
