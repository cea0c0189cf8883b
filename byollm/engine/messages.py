"""What the engine's process and the one that speaks for it say to each other, and how it is written."""

import pickle
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from byollm.engine.admission import Limits
from byollm.engine.outputs import EngineStats, Output
from byollm.engine.sampling_params import SamplingParams

if TYPE_CHECKING:
    from pathlib import Path

    from byollm.settings.engine import EngineSettings

LENGTH = struct.Struct("!Q")


class Load(NamedTuple):
    """Load a model. The first message; the answer is `Loaded` or `Refused`."""

    directory: "Path"
    settings: "EngineSettings"


class Add(NamedTuple):
    """Queue the sequences of one call; their increments come in `Progress`, or each `whole` at its end."""

    request_id: str
    prompt: list[int]
    params: SamplingParams
    salt: str
    whole: bool
    adapter: str | None = None


class Abort(NamedTuple):
    """End a call now, or forget a text that is being read."""

    request_id: str


class Score(NamedTuple):
    """Find how probable each token of a text is, and the `top` most probable in its place; see `Read`."""

    request_id: str
    tokens: list[int]
    top: int
    adapter: str | None = None


class Embed(NamedTuple):
    """Embed texts; see `Read`."""

    request_id: str
    texts: list[list[int]]
    adapter: str | None = None


class LoadAdapter(NamedTuple):
    """Load an adapter, or a new version of it; `Read` comes, with the error as its result if it is refused.

    Requests that come later get it, those under way keep what they began with.
    """

    request_id: str
    name: str
    directory: "Path"
    pinned: bool


class UnloadAdapter(NamedTuple):
    """Let an adapter no longer be asked for; see `Read`, as for `LoadAdapter`."""

    request_id: str
    name: str


class Stop(NamedTuple):
    """End what still runs with finish_reason "abort", and then the process."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What those who ask have to know about an engine.

    Attributes:
        limits: what bounds a request.
        family: which kind of model it is, such as `qwen3`.
        parameters: how many it has; None where that is not known.
        layers: of the model.
        hidden_size: of the model, and of its embeddings.
        dtype: the type of its weights, such as `float32`.
        device: where it runs, such as `cpu`.
        embeds: whether it can embed texts.
    """

    limits: Limits
    family: str
    parameters: int | None
    layers: int
    hidden_size: int
    dtype: str
    device: str
    embeds: bool = True


class Loaded(NamedTuple):
    """The engine is ready."""

    info: EngineInfo
    stats: EngineStats


class Refused(NamedTuple):
    """The model cannot be loaded, and why."""

    reason: str


class Progress(NamedTuple):
    """The increments of one step. It comes without any, too: from an idle engine to show that it lives."""

    outputs: list[Output]
    stats: EngineStats


class Read(NamedTuple):
    """What came of reading a text: the result, or what went wrong."""

    request_id: str
    result: Any
    error: str | None


def pack(message: object) -> bytes:
    """Write a message: its length and its pickle. The processes trust each other: one started the other."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


class File(Protocol):
    """What messages are read from."""

    def read(self, size: int, /) -> bytes | None:
        """Wait for so many bytes; fewer come only at the end."""


def unpack(body: bytes) -> Any:
    """Read a message after its length."""
    return pickle.loads(body)  # noqa: S301 (see `pack`)


def receive(file: File) -> Any:
    """Wait for a message and return it.

    Raises:
        EOFError: the other side is gone.
    """
    head = file.read(LENGTH.size) or b""
    if len(head) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        body = file.read(length) or b""
        if len(body) == length:
            return unpack(body)
    raise EOFError("the other side is gone")
