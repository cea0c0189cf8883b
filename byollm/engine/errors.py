"""The engine's exceptions."""

from byollm.settings import ByollmError

NOT_FINITE = "the model gave numbers that are not finite"


class EngineError(ByollmError):
    """Something about the engine or a request to it is wrong."""


class EngineClosedError(EngineError):
    """The engine takes no requests: it was not started, is draining, was stopped, or has died."""


class SamplingParamsError(EngineError):
    """A sampling parameter is out of range; `param` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


class AdmissionError(EngineError):
    """A request that cannot be served; `param` names the argument at fault where there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class GrammarError(EngineError):
    """A grammar that is not valid, or too large or too costly; the message continues "the grammar: "."""


class UnknownAdapterError(AdmissionError):
    """A request names an adapter that is not there."""


class AdapterLimitError(EngineError):
    """There is no room for another adapter."""


class QueueFullError(AdmissionError):
    """Too many sequences wait already; the same request may be taken later."""
