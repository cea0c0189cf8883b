"""The root of every error that byollm raises on purpose."""


class ByollmError(Exception):
    """An error meant for people: what was wrong, what was expected, what to do.

    The command line prints it without a traceback; each package derives its own family from it.
    """


class SettingsError(ByollmError):
    """A setting is unknown, malformed or out of range."""
