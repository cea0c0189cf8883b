"""The whole tree: one section for each part of the product."""

from pydantic_settings import BaseSettings, SettingsConfigDict

from byollm.settings.data import DataSettings
from byollm.settings.engine import EngineSettings
from byollm.settings.page import PageSettings
from byollm.settings.server import ServerSettings
from byollm.settings.training import FinetuneSettings, PretrainSettings

ENVIRONMENT_PREFIX = "BYOLLM__"


class Settings(BaseSettings):
    """Everything that can be set, by file or by an environment variable such as `BYOLLM__SERVER__PORT`."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
        validate_default=True,
        nested_model_default_partial_update=True,
    )

    data: DataSettings = DataSettings()
    """Corpora and conversations, and what they are turned into."""
    pretrain: PretrainSettings = PretrainSettings()
    """A language model from scratch: its shape and how it is trained."""
    finetune: FinetuneSettings = FinetuneSettings()
    """Teaching a model to answer."""
    engine: EngineSettings = EngineSettings()
    """The inference engine: memory, batching, precision."""
    server: ServerSettings = ServerSettings()
    """The HTTP server in front of the engine."""
    page: PageSettings = PageSettings()
    """The web page."""
