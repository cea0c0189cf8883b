"""The inference engine: many requests through one model at once.

Scheduling, a paged KV cache, the model runner and sampling. What needs torch is imported when it is first
asked for, so that the scheduler and all it stands on import none.
"""

from typing import TYPE_CHECKING, Any

from byollm.engine.errors import (
    AdmissionError,
    EngineClosedError,
    EngineError,
    QueueFullError,
    SamplingParamsError,
)
from byollm.engine.outputs import EngineStats, Output, TokenLogprobs
from byollm.engine.request import Request
from byollm.engine.sampling_params import SamplingParams

if TYPE_CHECKING:
    from byollm.engine.async_engine import AsyncEngine
    from byollm.engine.engine import Engine
    from byollm.engine.output_stream import OutputStream

__all__ = [
    "AdmissionError",
    "AsyncEngine",
    "Engine",
    "EngineClosedError",
    "EngineError",
    "EngineStats",
    "Output",
    "OutputStream",
    "QueueFullError",
    "Request",
    "SamplingParams",
    "SamplingParamsError",
    "TokenLogprobs",
]


def __getattr__(name: str) -> Any:
    if name == "Engine":
        from byollm.engine.engine import Engine

        return Engine
    if name == "AsyncEngine":
        from byollm.engine.async_engine import AsyncEngine

        return AsyncEngine
    if name == "OutputStream":
        from byollm.engine.output_stream import OutputStream

        return OutputStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
