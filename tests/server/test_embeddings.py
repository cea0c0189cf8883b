"""POST /v1/embeddings, asked by the official client."""

import math
import threading
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from byollm.modeling import Tokenizer, load_decoder
from tests.server.support import CONTEXT


def vectors(client: openai.OpenAI, given: Any, **changes: Any) -> list[list[float]]:
    answer = client.embeddings.create(model="tiny", input=given, **changes)
    assert [entry.index for entry in answer.data] == list(range(len(answer.data)))
    return [entry.embedding for entry in answer.data]


def close(one: list[float], other: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-5


def test_an_embedding_is_the_mean_hidden_state(client: openai.OpenAI, model_directory: Path) -> None:
    tokens = Tokenizer.load(model_directory).encode("the cat sat on the mat")
    with torch.no_grad():
        hidden = load_decoder(model_directory, torch.float32)(
            torch.tensor([tokens]), torch.arange(len(tokens))
        )
    wanted = torch.nn.functional.normalize(hidden[0].mean(0), dim=0).tolist()
    (found,) = vectors(client, "the cat sat on the mat")
    assert close(found, wanted)
    assert math.isclose(sum(value * value for value in found), 1, abs_tol=1e-5)


def test_every_form_of_input_is_taken(client: openai.OpenAI, http: httpx.Client) -> None:
    texts = ["the cat", "a dog ran after the cat in the rain " * 40, "é"]  # one is read in several pieces
    tokens = [http.post("/tokenize", json={"prompt": text}).json()["tokens"] for text in texts]
    answer = client.embeddings.create(model="tiny", input=texts)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(len, tokens))
    together = [entry.embedding for entry in answer.data]
    for index, text in enumerate(texts):
        assert close(vectors(client, text)[0], together[index])
        assert close(vectors(client, tokens[index])[0], together[index])
    assert all(map(close, vectors(client, tokens), together))
    assert all(map(close, vectors(client, tokens, encoding_format="float"), together))
    assert not close(together[0], together[2])


def test_invocations_embeds_what_has_an_input(client: openai.OpenAI, http: httpx.Client) -> None:
    body = {"input": "the cat", "encoding_format": "float", "dimensions": 32, "user": "me"}
    answer = http.post("/invocations", json=body).json()
    assert answer["object"] == "list"
    assert answer["data"][0]["object"] == "embedding"
    assert close(answer["data"][0]["embedding"], vectors(client, "the cat")[0])


def test_answers_go_on_while_texts_are_embedded(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "the cat", "max_tokens": 60, "temperature": 0}
    alone = client.completions.create(**asked).choices[0].text
    answers: list[str] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.completions.create(**asked).choices[0].text)
    )
    thread.start()
    vectors(client, ["a dog ran after the cat " * 20] * 40)
    thread.join()
    assert answers == [alone]


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_type"),
        ({"input": ["a", ""]}, "input", "invalid_value"),
        ({"input": [[1], []]}, "input", "invalid_value"),
        ({"input": [1, 4000]}, "input", "invalid_value"),
        ({"input": [1] * (CONTEXT + 1)}, "input", "context_length_exceeded"),
        ({"input": ["a"] * 3000}, "input", "invalid_value"),
        ({"input": [[1] * 4000] * 80}, "input", "invalid_value"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"dimensions": 16}, "dimensions", "invalid_value"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"truncate": True}, "truncate", "unknown_parameter"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name(
    http: httpx.Client, changes: dict[str, Any], param: str, code: str
) -> None:
    response = http.post("/v1/embeddings", json={"model": "tiny", "input": "a"} | changes)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
