"""LoRA adapters over HTTP: chosen by name, loaded, replaced and dropped while others are answered."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from byollm.modeling import Tokenizer
from tests.adapters import make_adapter, merged
from tests.server.support import ENDLESS, PATIENCE_S, Server, body, serving, wait_for

PROMPT = "the cat sat on the mat and the dog ran"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
LONG = 3000  # tokens of a stream that outlasts what is done beside it


@pytest.fixture(scope="module")
def reference(model_directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def directory(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of adapters, one of which is broken, beside a secret."""
    outside = tmp_path_factory.mktemp("outside")
    make_adapter(reference, outside / "secret", 9)
    root = outside / "adapters"
    for seed, name in enumerate(("legal", "medical", "spare", "other"), start=1):
        make_adapter(reference, root / name, seed)
    (root / "spare").rename(root / "later")
    shutil.copytree(root / "legal", root / "broken")
    (root / "broken" / WEIGHTS).write_bytes(b"\xff" * 100)
    (root / "link").symlink_to(outside / "secret")
    shutil.copytree(root / "legal", root / "linked")
    (root / "linked" / WEIGHTS).unlink()
    (root / "linked" / WEIGHTS).symlink_to(outside / "secret" / WEIGHTS)
    return root


@pytest.fixture(scope="module")
def adapted(
    model_directory: Path, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    named = f"mine={directory.parent / 'secret'}"
    settings = {"server__adapters": directory, "engine__adapter_slots": 2, "engine__max_adapters": 8}
    with serving(model_directory, log, "--adapter", named, **settings) as server:
        yield server


@pytest.fixture
def api(adapted: Server) -> Iterator[httpx.Client]:
    """A client; afterwards the adapters are those of the beginning."""
    with httpx.Client(base_url=adapted.url, timeout=PATIENCE_S) as api:
        there = {a["name"]: a["src"] for a in api.get("/adapters").json()["adapters"]}
        yield api
        left = {a["name"]: a["src"] for a in api.get("/adapters").json()["adapters"]}
        for name in left.keys() - there.keys():
            api.delete(f"/adapters/{name}")
        for name in there.keys() - left.keys():
            api.post("/adapters", json={"name": name, "src": there[name]})


def complete(api: httpx.Client, model: str, **changes: Any) -> str:
    body = {"model": model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0} | changes
    answer = api.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def expected(reference: Any, model_directory: Path, adapter: Path) -> str:
    tokenizer = Tokenizer.load(model_directory)
    prompt = tokenizer.encode(PROMPT)
    model = merged(reference, adapter)
    out = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    return tokenizer.decode([int(t) for t in out[0, len(prompt) :]])


def refused(answer: httpx.Response, status: int, param: str | None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert "/tmp" not in error["message"]
    return str(error["message"])


class Streaming(threading.Thread):
    """An answer that streams on while something else happens; `text` has it all in the end."""

    def __init__(self, server: Server, model: str) -> None:
        super().__init__()
        self.text = ""
        self.begun = threading.Event()
        self._client = server.client()
        self._model = model

    def run(self) -> None:
        stream = self._client.completions.create(
            model=self._model, prompt=PROMPT, max_tokens=LONG, temperature=0, stream=True,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        for event in stream:
            self.text += event.choices[0].text
            self.begun.set()

    def __enter__(self) -> "Streaming":
        self.start()
        assert self.begun.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.join(PATIENCE_S)
        self._client.close()


def test_the_name_of_the_model_picks_the_adapter(
    api: httpx.Client, reference: Any, model_directory: Path, directory: Path
) -> None:
    assert complete(api, "legal") == expected(reference, model_directory, directory / "legal")
    assert complete(api, "mine") == expected(reference, model_directory, directory.parent / "secret")
    assert len({complete(api, name) for name in ("tiny", "legal", "medical", "mine")}) == 4
    chat = {"model": "legal", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    assert api.post("/v1/chat/completions", json=chat).json()["model"] == "legal"


def test_embeddings_and_log_probabilities_are_those_of_the_adapter(api: httpx.Client) -> None:
    vectors = [
        api.post("/v1/embeddings", json={"model": name, "input": PROMPT}).json()["data"][0]["embedding"]
        for name in ("tiny", "legal")
    ]
    assert vectors[0] != vectors[1]
    body = {"prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 0}
    scores = [
        api.post("/v1/completions", json=body | {"model": name}).json()["choices"][0]["logprobs"]
        for name in ("tiny", "legal")
    ]
    assert scores[0]["token_logprobs"][1] != scores[1]["token_logprobs"][1]


def test_models_are_listed_with_their_adapters(adapted: Server, api: httpx.Client) -> None:
    with adapted.client() as client:
        models = {model.id: model.to_dict() for model in client.models.list()}
        assert client.models.retrieve("legal").to_dict() == models["legal"]
    assert set(models) == {"tiny", "legal", "medical", "later", "other", "mine"}
    assert (models["tiny"]["root"], models["tiny"]["parent"]) == ("tiny", None)
    assert (models["legal"]["root"], models["legal"]["parent"]) == ("legal", "tiny")


def test_a_broken_adapter_that_is_there_is_left_out_and_logged(adapted: Server) -> None:
    assert f"{WEIGHTS}: damaged or cut short" in adapted.log.read_text()


def test_a_failure_is_logged_under_the_id_that_the_client_got(
    adapted: Server, api: httpx.Client, directory: Path
) -> None:
    shutil.copytree(directory / "legal", directory / "huge")
    tensors = load_file(directory / "huge" / WEIGHTS)
    save_file({name: tensor * 1e30 for name, tensor in tensors.items()}, directory / "huge" / WEIGHTS)
    loaded = api.post("/v1/load_lora_adapter", json={"lora_name": "huge", "lora_path": "huge"})
    shutil.rmtree(directory / "huge")
    assert loaded.status_code == 200, loaded.text
    answer = api.post("/v1/completions", json={"model": "huge", "prompt": PROMPT})
    assert answer.status_code == 500
    assert f"request {answer.headers['x-request-id']}" in adapted.log.read_text()
    assert PROMPT not in adapted.log.read_text()


def test_an_unknown_name_is_told_what_there_is(api: httpx.Client) -> None:
    answer = api.post("/v1/completions", json={"model": "none", "prompt": "a"})
    assert "'tiny', and the adapters later, legal, medical, mine, other" in refused(answer, 404, "model")


def test_an_adapter_is_loaded_replaced_and_unloaded_as_with_vllm(api: httpx.Client) -> None:
    load = {"lora_name": "new", "lora_path": "later"}
    answer = api.post("/v1/load_lora_adapter", json=load)
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'new' added successfully.")
    later = complete(api, "new")
    again = api.post("/v1/load_lora_adapter", json=load)
    assert "has already been loaded" in refused(again, 400, "lora_name")
    load |= {"lora_path": "other", "load_inplace": True}
    assert api.post("/v1/load_lora_adapter", json=load).status_code == 200
    assert complete(api, "new") == complete(api, "other") != later
    answer = api.post("/v1/unload_lora_adapter", json={"lora_name": "new"})
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'new' removed successfully.")
    assert api.post("/v1/completions", json={"model": "new", "prompt": "a"}).status_code == 404
    gone = api.post("/v1/unload_lora_adapter", json={"lora_name": "new"})
    assert "There are: 'later'" in refused(gone, 404, "lora_name")


def test_adapters_are_managed_and_chosen_as_sagemaker_does(api: httpx.Client, directory: Path) -> None:
    alias = {"X-Amzn-SageMaker-Adapter-Alias": "Component"}
    body = {"name": "id/1", "src": str(directory / "later"), "preload": True, "pin": True}
    assert api.post("/adapters", json=body, headers=alias).json() == {
        "status": "Adapter Component registered"
    }
    described = {"name": "id/1", "src": "later", "pin": True}
    assert api.get("/adapters/id/1").json() == [described]
    assert described in api.get("/adapters").json()["adapters"]
    header = {"X-Amzn-SageMaker-Adapter-Identifier": "id/1"}
    asked = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    for body in (asked, asked | {"model": "tiny"}):
        answer = api.post("/invocations", json=body, headers=header).json()
        assert (answer["model"], answer["choices"][0]["text"]) == ("id/1", complete(api, "later"))
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": "route=/v1/models"}
    listed = api.post("/invocations", json={}, headers=attributes).json()
    assert listed == api.get("/v1/models").json()
    assert {"tiny", "id/1"} <= {model["id"] for model in listed["data"]}
    other = api.post("/adapters/id/1", json={"src": "other"}).json()
    assert other == {"status": "Adapter id/1 updated"}
    assert complete(api, "id/1") == complete(api, "other")
    assert api.get("/adapters/id/1").json()[0]["pin"] is True
    assert "no adapter 'x'" in refused(api.post("/adapters/x", json={"src": "other"}), 404, "name")
    assert api.delete("/adapters/id/1").json() == {"status": "Adapter id/1 unregistered"}
    refused(api.delete("/adapters/id/1"), 404, "name")
    refused(api.get("/adapters/id/1"), 404, "name")
    query = {"name": "q", "src": "later", "preload": "false", "pin": "false"}  # as DJL's clients write it
    assert api.post("/adapters", params=query).json() == {"status": "Adapter q registered"}


def test_adapters_are_listed_by_the_page(api: httpx.Client) -> None:
    names: list[str] = []
    page: dict[str, Any] = {"next_page_token": "0"}
    while "next_page_token" in page:
        query = {"limit": 2, "next_page_token": page["next_page_token"]}
        page = api.get("/adapters", params=query).json()
        names += [adapter["name"] for adapter in page["adapters"]]
    assert names == ["later", "legal", "medical", "mine", "other"]
    assert api.get("/adapters", params={"limit": 0}).json()["error"]["param"] == "limit"


@pytest.mark.parametrize(
    "path", ["..", "../secret", ".", "/etc", "link", "linked", "legal/../../secret", "a\0b", "x" * 900]
)
def test_nothing_outside_the_directory_is_read(api: httpx.Client, path: str) -> None:
    answer = api.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": path})
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == "lora_path"
    assert "/tmp" not in answer.text


def test_what_is_refused_says_which_parameter_and_why(api: httpx.Client) -> None:
    def load(**changes: Any) -> httpx.Response:
        return api.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "later"} | changes)

    assert "is the name of a model" in refused(load(lora_name="tiny"), 400, "lora_name")
    assert "letters, digits" in refused(load(lora_name="a b\n"), 400, "lora_name")
    assert "There is no 'nowhere'" in refused(load(lora_path="nowhere"), 404, "lora_path")
    assert f"{WEIGHTS}: damaged" in refused(load(lora_path="broken"), 400, "lora_path")
    refused(api.post("/v1/load_lora_adapter", json={"lora_name": "x"}), 400, "lora_path")
    refused(load(lora_paths="a"), 400, "lora_paths")
    for name in ("n1", "n2", "n3"):  # five are there, eight may be
        assert load(lora_name=name).status_code == 200
    assert "engine.max_adapters" in refused(load(), 400, "lora_name")


def test_streams_go_on_undisturbed_while_bad_adapters_are_refused(
    adapted: Server, api: httpx.Client, directory: Path
) -> None:
    undisturbed = complete(api, "legal", max_tokens=LONG, ignore_eos=True)
    with Streaming(adapted, "legal") as streaming:
        for bad in hostile(directory):
            answer = api.post("/v1/load_lora_adapter", json={"lora_name": "bad", "lora_path": bad.name})
            assert bad.name in refused(answer, 400, "lora_path"), bad.name
            shutil.rmtree(bad)
    assert streaming.text == undisturbed
    assert api.get("/ping").status_code == 200


def hostile(directory: Path) -> Iterator[Path]:
    """Adapters that must be refused; the name of each is a word of the refusal."""

    def copy(name: str, tensors: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
        bad = shutil.copytree(directory / "legal", directory / name)
        said = json.loads((bad / CONFIG).read_text())
        (bad / CONFIG).write_text(json.dumps(said | config))
        if tensors is not None:
            save_file(tensors, bad / WEIGHTS)
        return bad

    good = load_file(directory / "legal" / WEIGHTS)
    first = next(iter(good))
    yield copy("use_dora", use_dora=True)
    yield copy("finite", {name: tensor * torch.inf for name, tensor in good.items()})
    yield copy("rank", {n: t.repeat(32, 1) if "lora_A" in n else t.repeat(1, 32) for n, t in good.items()})
    yield copy("lora_head", good | {"base_model.model.lora_head": good[first].clone()})
    yield copy("expected", good | {first: good[first][:, :7].contiguous()})
    yield copy("(a+)+b", alpha_pattern={"(a+)+b": 1})
    huge = copy("larger")
    with (huge / WEIGHTS).open("ab") as file:
        file.truncate(2**40)  # a hole, which takes no room
    yield huge
    cut = copy("cut")
    (cut / WEIGHTS).write_bytes((cut / WEIGHTS).read_bytes()[:-100])
    yield cut
    absent = copy("absent")
    (absent / WEIGHTS).unlink()
    yield absent


def test_a_stream_keeps_the_adapter_it_began_with(adapted: Server, api: httpx.Client) -> None:
    api.post("/adapters", json={"name": "a", "src": "later"})
    undisturbed = complete(api, "a", max_tokens=LONG, ignore_eos=True)
    with Streaming(adapted, "a") as streaming:
        assert api.post("/adapters/a", json={"src": "other"}).status_code == 200
        assert complete(api, "a") == complete(api, "other")
        assert api.delete("/adapters/a").status_code == 200
    assert streaming.text == undisturbed


def test_adapters_under_way_are_among_the_metrics(adapted: Server, api: httpx.Client) -> None:
    asked = body(ENDLESS | {"model": "legal"})
    with adapted.client() as client, client.completions.create(stream=True, **asked) as stream:
        next(stream)
        info = 'byollm:lora_requests_info{max_lora="2",running_lora_adapters="legal",waiting'
        wait_for(lambda: info in api.get("/metrics").text)


def test_without_a_directory_nothing_is_loaded_while_it_runs(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as api:
        answer = api.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "y"})
        assert "set server.adapters" in refused(answer, 400, "lora_path")
        assert api.get("/adapters").json() == {"adapters": []}


def test_a_named_adapter_that_is_bad_keeps_the_server_from_starting(
    model_directory: Path, directory: Path, tmp_path: Path
) -> None:
    named = f"x={directory / 'broken'}"
    with serving(model_directory, tmp_path / "log", "--adapter", named, ready=False) as server:
        assert server.process.wait(PATIENCE_S) != 0
    assert "adapter x (" in server.log.read_text()


def test_openai_errors_are_raised_by_its_client(adapted: Server) -> None:
    with adapted.client() as client, pytest.raises(openai.NotFoundError):
        client.completions.create(model="none", prompt="a")
