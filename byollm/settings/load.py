"""Layers the settings: defaults, `config/base.yaml`, `config/<env>.yaml`, then environment variables."""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import PydanticBaseSettingsSource, YamlConfigSettingsSource

from byollm.settings.base import explain
from byollm.settings.errors import SettingsError
from byollm.settings.tree import ENVIRONMENT_PREFIX, Settings

REPOSITORY = Path(__file__).parents[2]


class Layers(YamlConfigSettingsSource):
    """The files, one over the other."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        """Read one; `engine: vllm` in it is short for `engine: {backend: vllm}`."""
        values = super()._read_file(file_path)
        if isinstance(values.get("engine"), str):
            values["engine"] = {"backend": values["engine"]}
        return values


def load_settings(env: str = "dev", directory: Path | None = None) -> Settings:
    """Read and validate the whole tree for one environment.

    Args:
        env: names the file of the environment, `config/<env>.yaml`.
        directory: where the files are; by default `config` in the working directory, else the checkout's.

    Raises:
        SettingsError: no such environment, unreadable YAML, or settings that are unknown or not allowed.
            The message lists every fault with its path, its value and what is allowed.
    """
    directory = directory or _config_directory()
    files = [directory / "base.yaml", directory / f"{env}.yaml"]
    if env == "base" or not files[1].is_file():
        known = sorted(path.stem for path in directory.glob("*.yaml") if path.stem != "base")
        raise SettingsError(f"no environment {env!r} in {directory}: there is {', '.join(known) or 'none'}")

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[Settings],  # type: ignore[override]
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            layers = Layers(settings_cls, yaml_file=files, deep_merge=True)
            return init_settings, env_settings, layers

    _refuse_unknown_variables()
    try:
        return Layered()
    except ValidationError as error:
        raise SettingsError(
            f"the settings of environment {env!r} are wrong:\n{explain(error, Settings)}"
        ) from None
    except yaml.YAMLError as error:
        raise SettingsError(f"the settings of environment {env!r} are not valid YAML: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"the settings of environment {env!r} cannot be read: {error}") from None


def _config_directory() -> Path:
    here = Path("config")
    return here if (here / "base.yaml").is_file() else REPOSITORY / "config"


def _refuse_unknown_variables() -> None:
    """Refuse a variable that names no section; inside a section, validation does it."""
    sections = set(Settings.model_fields)
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            section = name[len(ENVIRONMENT_PREFIX) :].split("__")[0].lower()
            if section not in sections:
                raise SettingsError(
                    f"{name}: unknown section {section!r}. Allowed: {', '.join(sorted(sections))}"
                )
