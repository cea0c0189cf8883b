"""A model server whose answers are scripted, for what a real one cannot be made to show.

A process of its own: `python scripted_server.py PORT`. The question chooses the script (see `answer`);
`GET /seen` tells what was asked and how often a client went away before its answer ended; `POST /state` makes
it "loading", and adds to what it tells of its model.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

CONTEXT = 12  # words of questions
HOSTILE = """Look: <script>window.pwned = "script"</script>
<img src="x" onerror="window.pwned = 'onerror'"> <img src="http://127.0.0.1:TRAP/pixel.png">
<svg onload="window.pwned = 'svg'"></svg> <iframe srcdoc="<script>parent.pwned = 'frame'</script>"></iframe>
<style>body { background: url(http://127.0.0.1:TRAP/style.png) }</style><form action="http://127.0.0.1:TRAP/"><input></form>
![a picture](http://127.0.0.1:TRAP/markdown.png) [a link](javascript:window.pwned='link') <b>bold</b> end"""
CARD = """---
license: apache-2.0
---
# The scripted model

Trained on **nothing**. <script>window.pwned = "card"</script>

| figure | value |
|---|---|
| validation loss | 1.23 |
"""

app = FastAPI()
seen: dict[str, Any] = {"bodies": [], "gone": 0}
state: dict[str, Any] = {"status": "ready", "facts": {}}


@app.get("/seen")
async def tell() -> dict[str, Any]:
    return seen


@app.post("/state")
async def set_state(request: Request) -> dict[str, Any]:
    state.update(await request.json())
    return state


@app.get("/v1/models")
async def models() -> Any:
    if state["status"] != "ready":
        return _error(503, "The model is still loading. Try again soon.", "model_loading")
    return {"object": "list", "data": [{"id": "scripted-1m", "object": "model"}]}


@app.get("/model/info")
async def info() -> dict[str, Any]:
    facts = {"model": "scripted-1m", "parameters": 1_234_567, "max_context": 512, "version": "9.9"}
    return facts | {"card": CARD} | state["facts"]


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Any:
    body = await request.json()
    seen["bodies"].append(body)
    asked = [message["content"] for message in body["messages"] if message["role"] == "user"]
    if len(" ".join(asked).split()) > CONTEXT:
        message = f"This model's maximum context length is {CONTEXT} words. Shorten the messages."
        return _error(400, message, "context_length_exceeded")
    return StreamingResponse(_stream(request, body), media_type="text/event-stream")


def _error(status: int, message: str, code: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "error", "param": None, "code": code}}, status)


async def _stream(request: Request, body: dict[str, Any]) -> AsyncIterator[str]:
    question = body["messages"][-1]["content"]
    finished = False
    try:
        async for event in answer(question):
            yield event
        finished = True
    finally:
        seen["gone"] += not finished


async def answer(question: str) -> AsyncIterator[str]:
    count = len(seen["bodies"])
    if question.startswith("hostile"):
        yield _event(HOSTILE.replace("TRAP", question.split()[1]))
    elif question == "slowly":
        for number in range(2000):
            yield _event(f"{number} ")
            await asyncio.sleep(0.1 if number < 12 else 1)  # so that a page on a slow machine catches up
    elif question == "think first":
        yield ": keep-alive\n\n"
        await asyncio.sleep(300)
    elif question in ("break", "drop"):
        for word in ("so ", "far ", "so good"):
            yield _event(word)
        if question == "break":
            yield _data({"error": {"message": "the engine *died*", "code": "internal"}})
        return
    else:
        for word in f"Answer {count} to: \u2028{question}".split(" "):
            yield _event(f"{word} ")
    yield _data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield _data({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1234}})
    yield "data: [DONE]\n\n"


def _event(text: str) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return _data({"choices": [choice]})


def _data(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1, timeout_keep_alive=60
    )
