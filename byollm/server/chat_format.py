"""OpenAI's chat completions: the answer in its two forms."""

import time
import uuid
from typing import Any

import orjson

from byollm.engine import Output
from byollm.server.answers import Choice, Tally, Usage, closing_events
from byollm.server.chat import ChatRequest
from byollm.server.fingerprint import FINGERPRINT
from byollm.server.logprobs import Vocabulary, chat_logprobs
from byollm.server.tool_calls import CallParser, Piece, new_call_id, split_calls


class ChatFormat:
    """Writes chat completions and their chunks.

    Args:
        request: the request.
        vocabulary: knows the bytes of tokens, for log-probabilities.
    """

    def __init__(self, request: ChatRequest, vocabulary: Vocabulary) -> None:
        self._request = request
        self._vocabulary = vocabulary
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": FINGERPRINT,
        }
        # A chunk of text is by far the most frequent event: everything but the text is serialised once.
        usage = b',"usage":null' if request.include_usage else b""
        head = orjson.dumps(self._head | {"object": "chat.completion.chunk"})[:-1]
        self._before = [
            b"data: " + head + b',"choices":[{"index":%d,"delta":' % choice for choice in range(request.n)
        ]
        self._after = b"}]" + usage + b"}\n\n"
        self._tally = Tally(request.n) if request.continuous_usage else None
        self._closing_head = head
        parsers = range(request.n if request.offered_tools else 0)
        self._parsers = [CallParser(calls_only=request.must_call) for _ in parsers]

    def _chunk(self, choice: int, delta: bytes, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        return b"".join(
            (
                self._before[choice],
                delta,
                b',"logprobs":',
                logprobs,
                b',"finish_reason":',
                finish,
                self._after,
            )
        )

    def opening(self) -> bytes:
        """A chunk for each choice that says who speaks."""
        content = b"null" if self._parsers else b'""'
        delta = b'{"role":"assistant","content":' + content + b',"refusal":null}'
        return b"".join(self._chunk(choice, delta) for choice in range(self._request.n))

    def events(self, choice: int, output: Output) -> bytes:
        """Chunks with the new text or calls, and one with the reason of the end."""
        if self._tally is not None:
            self._tally.note(choice, output)
            usage = orjson.dumps(self._tally.usage.to_json())
            self._after = b'}],"usage":' + usage + b"}\n\n"
        logprobs = b"null"
        if output.logprobs:
            logprobs = orjson.dumps(chat_logprobs(output.logprobs, self._vocabulary))
        deltas = self._call_deltas(choice, output) if self._parsers else []
        if not self._parsers and (output.text or output.logprobs):
            deltas.append(b'{"content":' + orjson.dumps(output.text) + b"}")
        elif not deltas and output.logprobs:
            deltas.append(b"{}")
        events = b""
        for delta in deltas:
            events += self._chunk(choice, delta, logprobs)
            logprobs = b"null"  # they are told once
        if output.finish_reason is not None:
            reason = self._reason(choice, output.finish_reason)
            events += self._chunk(choice, b"{}", finish=orjson.dumps(reason))
        return events

    def _call_deltas(self, choice: int, output: Output) -> list[bytes]:
        parser = self._parsers[choice]
        deltas = []
        index = parser.calls - 1
        pieces = parser.push(output.text)
        if output.finish_reason is not None:
            pieces += parser.flush()
        for piece in pieces:
            index += piece.kind == "call"
            deltas.append(orjson.dumps(_delta(index, piece)))
        return deltas

    def closing(self, usage: Usage) -> bytes:
        """The usage, if asked for, and the end mark."""
        return closing_events(self._closing_head, usage if self._request.include_usage else None)

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        """The completion in one piece."""
        written = [self._choice(index, choice) for index, choice in enumerate(choices)]
        return orjson.dumps(self._head | {"choices": written, "usage": usage.to_json()})

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        text = "".join(choice.text)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self._parsers:
            text, calls = split_calls(text, self._parsers[index])
            message["content"] = text or None
            if calls:
                message["tool_calls"] = [
                    {
                        "id": call.call_id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    }
                    for call in calls
                ]
        return {
            "index": index,
            "message": message,
            "logprobs": chat_logprobs(choice.logprobs, self._vocabulary) if self._request.logprobs else None,
            "finish_reason": self._reason(index, choice.finish_reason),
        }

    def _reason(self, choice: int, finish_reason: str | None) -> str | None:
        called = bool(self._parsers) and self._parsers[choice].called
        return "tool_calls" if called and finish_reason == "stop" else finish_reason


def _delta(index: int, piece: Piece) -> dict[str, Any]:
    """What a chunk adds to the message."""
    if piece.kind == "text":
        return {"content": piece.value}
    call: dict[str, Any] = {"index": index, "function": {"arguments": piece.value}}
    if piece.kind == "call":
        call |= {"id": new_call_id(), "type": "function"}
        call["function"] = {"name": piece.value, "arguments": ""}
    return {"tool_calls": [call]}
