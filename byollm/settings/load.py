"""Layers the settings: defaults, `config/base.yaml`, `config/<env>.yaml`, then environment variables."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, PydanticBaseSettingsSource, YamlConfigSettingsSource

from byollm.settings.base import explain
from byollm.settings.errors import SettingsError
from byollm.settings.tree import ENVIRONMENT_PREFIX, Settings

REPOSITORY = Path(__file__).parents[2]


class Layers(YamlConfigSettingsSource):
    """The files, one over the other."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        """Read one, with words in place of sections written out."""
        values = super()._read_file(file_path)
        return {name: _section(name, value) for name, value in values.items()}


class Variables(EnvSettingsSource):
    """The environment's variables."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read an object or a list; what is not JSON is text, which validation refuses with its path."""
        with suppress(ValueError):
            value = super().decode_complex_value(field_name, field, value)
        return _section(field_name, value)


def _section(name: str, value: Any) -> Any:
    """Return a section; `engine: vllm` is short for `engine: {backend: vllm}`."""
    return {"backend": value} if name == "engine" and isinstance(value, str) else value


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
            return init_settings, Variables(settings_cls), layers

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
