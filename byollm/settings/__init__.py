"""One typed tree of settings, validated before anything is built."""

from byollm.settings.base import Section
from byollm.settings.errors import ByollmError, SettingsError

__all__ = ["ByollmError", "Section", "SettingsError"]
