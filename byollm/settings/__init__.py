"""One typed tree of settings, validated before anything is built."""

from byollm.settings.aws import AwsSettings
from byollm.settings.base import Section
from byollm.settings.data import DataSettings
from byollm.settings.endpoint import EndpointSpec
from byollm.settings.engine import EngineSettings
from byollm.settings.errors import ByollmError, SettingsError
from byollm.settings.load import REPOSITORY, load_settings
from byollm.settings.network import NetworkSettings
from byollm.settings.observability import ObservabilitySettings
from byollm.settings.page import PageSettings
from byollm.settings.server import ServerSettings
from byollm.settings.storage import StorageSettings
from byollm.settings.training import FinetuneSettings, PretrainSettings
from byollm.settings.tree import Settings

__all__ = [
    "REPOSITORY",
    "AwsSettings",
    "ByollmError",
    "DataSettings",
    "EndpointSpec",
    "EngineSettings",
    "FinetuneSettings",
    "NetworkSettings",
    "ObservabilitySettings",
    "PageSettings",
    "PretrainSettings",
    "Section",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "StorageSettings",
    "load_settings",
]
