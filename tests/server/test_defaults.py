"""How tokens are drawn where a request does not say: as the model's generation_config.json has it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from byollm.server.defaults import load_defaults
from byollm.server.errors import ServerError
from tests.server.support import PATIENCE_S, serving

DRAWN = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.02, "repetition_penalty": 1.2}
NEUTRAL = {"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1}


@pytest.fixture(scope="module")
def tuned(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The same model with wishes of its own."""
    directory = tmp_path_factory.mktemp("tuned") / "tiny"
    shutil.copytree(model_directory, directory)
    path = directory / "generation_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | DRAWN | {"max_new_tokens": 5, "do_sample": True})
    )
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving(directory, log) as server, httpx.Client(base_url=server.url, timeout=PATIENCE_S) as http:
        yield http


def answer(http: httpx.Client, route: str, body: dict[str, Any]) -> Any:
    given = http.post(route, json=body | {"seed": 5, "max_tokens": 40})
    assert given.status_code == 200, given.text
    whole = given.json()
    return whole["choices"] if "choices" in whole else whole["text"]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "the cat"}]}),
        ("/v1/completions", {"model": "tiny", "prompt": "the cat"}),
        ("/invocations", {"messages": [{"role": "user", "content": "the cat"}]}),
        ("/invocations", {"prompt": "the cat"}),
        ("/generate", {"prompt": "the cat"}),
        ("/predict", {"prompt": "the cat"}),
    ],
)
def test_every_route_draws_as_the_model_wishes_unless_told(
    http: httpx.Client, tuned: httpx.Client, route: str, body: dict[str, Any]
) -> None:
    plain = answer(http, route, body)
    wished = answer(tuned, route, body)
    assert wished != plain
    assert wished == answer(http, route, body | DRAWN)
    assert wished == answer(tuned, route, body | {"temperature": None})
    assert plain == answer(tuned, route, body | NEUTRAL)
    # two are told, and the others stay as wished
    assert answer(tuned, route, body | {"top_k": 1, "min_p": 0}) == answer(
        http, route, body | DRAWN | {"top_k": 1, "min_p": 0}
    )


def test_model_info_tells_the_defaults(http: httpx.Client, tuned: httpx.Client) -> None:
    assert http.get("/model/info").json()["sampling_defaults"] == NEUTRAL
    assert tuned.get("/model/info").json()["sampling_defaults"] == DRAWN


def test_a_model_without_wishes_has_the_neutral_values(tmp_path: Path) -> None:
    assert load_defaults(tmp_path).model_dump() == NEUTRAL
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2, "temperature": null}')
    assert load_defaults(tmp_path).model_dump(exclude_unset=True) == {}


def test_do_sample_false_takes_the_most_probable_token(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.6, "top_k": 20}')
    assert load_defaults(tmp_path).model_dump(exclude_unset=True) == {"temperature": 0, "top_k": 20}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"temperature": -1}', "temperature is -1: Input should be greater than or equal to 0"),
        ('{"temperature": "hot"}', "temperature is 'hot'"),
        ('{"temperature": true}', "temperature is true"),
        ('{"temperature": NaN}', "temperature is nan"),
        ('{"top_p": 1.5}', "top_p is 1.5"),
        ('{"top_k": 2.5}', "top_k is 2.5"),
        ('{"min_p": [0]}', "min_p is a list of 1"),
        ('{"repetition_penalty": 0}', "repetition_penalty is 0"),
        ('{"do_sample": "no"}', "do_sample is 'no'; expected true or false"),
        ("{", "not readable as JSON"),
        ("[]", "expected a JSON object"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_file_and_field(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ServerError) as refused:
        load_defaults(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / 'generation_config.json'}: ")
    assert words in str(refused.value)
