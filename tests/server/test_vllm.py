"""vLLM behind the server: the same contract. Its build for CPUs is in an environment of its own."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import torch
import transformers

from byollm.engine import Engine, Output, SamplingParams
from byollm.modeling import Decoder, DecoderConfig, Tokenizer, save_decoder
from byollm.settings import REPOSITORY
from byollm.settings.engine import EngineSettings
from tests.adapters import make_adapter
from tests.engine.support import run
from tests.server.conftest import save_tokenizer
from tests.server.support import VOCAB, Server, serving, wait_for

PYTHON = Path(os.environ.get("BYOLLM_TEST_VLLM", REPOSITORY / "var" / "peers" / "vllm" / "bin" / "python"))

pytestmark = [
    pytest.mark.skipif(
        not PYTHON.exists(), reason="no vLLM: scripts/bench_peers vllm, or BYOLLM_TEST_VLLM=its Python"
    ),
    pytest.mark.timeout(600),
]

OPTIONS = {"enforce_eager": True, "dtype": "float32", "max_model_len": 4096, "max_num_seqs": 8}
PROMPT = [5, 9, 40, 7, 33, 60, 8, 90, 17, 21, 55, 3, 70, 71, 72, 73, 74, 75, 76, 77]
GREEDY: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "temperature": 0}
TALK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "the cat"}]}
LONG: dict[str, Any] = GREEDY | {"max_tokens": 1500, "ignore_eos": True}


@pytest.fixture(scope="session")
def vllm_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, in a shape that vLLM's attention and two of its processes can have."""
    directory, tokenizer = tmp_path_factory.mktemp("vllm") / "tiny", tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer)
    torch.manual_seed(1)
    config = DecoderConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=32,
        intermediate_size=64,
        max_positions=4096,
        tie_embeddings=True,
    )
    decoder = Decoder(config)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if "norm" not in name:
                parameter.mul_(10)  # wide, so that answers vary
    save_decoder(decoder, directory, Tokenizer.load(tokenizer))
    return directory


@contextlib.contextmanager
def start(model: Path, log: Path, adapters: Path | None = None, **options: Any) -> Iterator[Server]:
    """Serve a model by vLLM, whose environment has no byollm in it."""
    core = str(min(os.sched_getaffinity(0)))
    variables = {
        "PYTHONPATH": str(REPOSITORY),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "|".join([core] * options.get("tensor_parallel_size", 1)),
        "HF_HUB_OFFLINE": "1",
    }
    settings: dict[str, object] = {
        "engine__backend": "vllm",
        "engine__dtype": "auto",  # OPTIONS has it
        "engine__stall_seconds": 60,
        "engine__stream_interval_s": 0,
        "engine__vllm": json.dumps(OPTIONS | options),
    }
    if adapters is not None:
        settings["server__adapters"] = adapters
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with serving(model, log, python=str(PYTHON), **settings) as server:
            yield server


@pytest.fixture(scope="module")
def adapters(vllm_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one adapter, as PEFT writes it."""
    directory = tmp_path_factory.mktemp("adapters")
    model = transformers.AutoModelForCausalLM.from_pretrained(vllm_model, dtype=torch.float32)
    make_adapter(model, directory / "shouting", r=4)
    return directory


@pytest.fixture(scope="module")
def vllm(vllm_model: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with start(vllm_model, log, adapters, enable_lora=True, max_lora_rank=8) as server:
        yield server


@pytest.fixture(scope="module")
def client(vllm: Server) -> Iterator[openai.OpenAI]:
    with vllm.client() as client:
        yield client


@pytest.fixture(scope="module")
def engine(vllm_model: Path) -> Engine:
    return Engine.load(vllm_model, EngineSettings(dtype="float32", threads=1))


@pytest.fixture(scope="module")
def answer(engine: Engine) -> Output:
    """The greedy answer of our engine."""
    engine.add_request("", PROMPT, SamplingParams(max_tokens=40, temperature=0, ignore_eos=True))
    return run(engine)["", 0]


@pytest.fixture(scope="module")
def ours(answer: Output) -> str:
    return answer.text


def post(server: Server, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=60)


def test_greedy_answers_are_those_of_our_engine(client: openai.OpenAI, ours: str) -> None:
    asked = GREEDY | {"max_tokens": 40, "extra_body": {"ignore_eos": True}}
    answer = client.completions.create(**asked)
    assert answer.choices[0].text == ours
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(PROMPT), 40)
    stream = list(client.completions.create(stream=True, stream_options={"include_usage": True}, **asked))
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == ours
    assert len(stream) > 2
    assert stream[-1].usage is not None
    assert stream[-1].usage.completion_tokens == 40


def test_a_prompt_that_comes_again_is_found_in_the_cache(vllm: Server) -> None:
    asked = GREEDY | {"prompt": PROMPT * 15, "max_tokens": 1}
    first, again = (post(vllm, "/v1/completions", **asked).json()["usage"] for _ in range(2))
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert again["prompt_tokens_details"]["cached_tokens"] >= 128
    assert vllm.metric("prefix_cache_hits_total") >= 128


def test_a_chat_tells_the_probabilities_of_its_tokens(client: openai.OpenAI, vllm: Server) -> None:
    answer = client.chat.completions.create(
        **TALK, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].logprobs is not None
    entries = answer.choices[0].logprobs.content
    assert entries is not None
    assert answer.usage is not None
    assert len(entries) == answer.usage.completion_tokens
    for entry in entries:
        assert [top.logprob for top in entry.top_logprobs] == sorted(
            (top.logprob for top in entry.top_logprobs), reverse=True
        )
        assert entry.top_logprobs[0].logprob == entry.logprob, "greedy takes the first"
    tokens = post(vllm, "/tokenize", **TALK).json()["count"]
    assert answer.usage.prompt_tokens == tokens
    invoked = post(vllm, "/invocations", **TALK, temperature=0, max_tokens=6).json()
    assert invoked["choices"][0]["message"]["content"] == answer.choices[0].message.content


def test_stop_strings_and_tokens_end_an_answer_and_are_no_part_of_it(
    client: openai.OpenAI, vllm: Server, ours: str, answer: Output
) -> None:
    stop = next(letter for letter in ours if letter.isascii() and letter.isalpha())
    asked = GREEDY | {"max_tokens": 40, "stop": stop, "extra_body": {"ignore_eos": True}}
    stream = list(client.completions.create(stream=True, **asked))
    assert "".join(chunk.choices[0].text for chunk in stream) == ours.split(stop)[0]
    assert stream[-1].choices[0].finish_reason == "stop"
    first = answer.token_ids[0]
    stopped = post(vllm, "/v1/completions", **GREEDY, max_tokens=9, stop_token_ids=[first], n=2).json()
    assert [(each["text"], each["finish_reason"]) for each in stopped["choices"]] == [("", "stop")] * 2


def test_a_seed_repeats_its_answers_and_each_answer_has_its_own(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 12, "n": 3, "seed": -1}
    once, again = (client.completions.create(**asked) for _ in range(2))
    texts = [choice.text for choice in sorted(once.choices, key=lambda choice: choice.index)]
    assert texts == [choice.text for choice in sorted(again.choices, key=lambda choice: choice.index)]
    assert len(set(texts)) > 1


def test_answers_follow_schemas_choices_and_tools(client: openai.OpenAI, vllm: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"tall": {"type": "boolean"}, "kind": {"enum": ["cat", "dog"]}},
        "required": ["tall", "kind"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "pet", "schema": schema}}
    answer = client.chat.completions.create(**TALK, seed=1, max_tokens=200, response_format=wanted)  # type: ignore[call-overload]
    pet = json.loads(answer.choices[0].message.content)
    assert isinstance(pet["tall"], bool)
    assert pet["kind"] in ("cat", "dog")
    chosen = post(vllm, "/v1/chat/completions", **TALK, structured_outputs={"choice": ["yes", "no"]})
    assert chosen.json()["choices"][0]["message"]["content"] in ("yes", "no")
    tool = {"type": "function", "function": {"name": "pet", "parameters": schema}}
    called = post(
        vllm,
        "/v1/chat/completions",
        **TALK,
        max_tokens=300,
        seed=1,
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
    ).json()["choices"][0]
    assert called["finish_reason"] == "tool_calls", called
    assert json.loads(called["message"]["tool_calls"][0]["function"]["arguments"])["kind"] in ("cat", "dog")
    refused = post(vllm, "/v1/chat/completions", **TALK, structured_outputs={"regex": "("})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "structured_outputs.regex")


def test_a_prompt_can_be_scored(vllm: Server, engine: Engine) -> None:
    asked = GREEDY | {"max_tokens": 0, "echo": True, "logprobs": 2}
    told = post(vllm, "/v1/completions", **asked).json()["choices"][0]["logprobs"]
    reading = engine.score(PROMPT, 2)
    try:
        while True:
            next(reading)
    except StopIteration as end:
        expected = [entry.logprob for entry in end.value]
    assert told["token_logprobs"][0] is None
    assert told["token_logprobs"][1:] == pytest.approx(expected, abs=1e-3)
    assert len(told["top_logprobs"][1]) in (2, 3)
    whole = post(vllm, "/v1/completions", **asked | {"prompt": (PROMPT * 205)[:4096]})
    assert whole.status_code == 200, "as long as the context"


def test_adapters_come_and_go_by_the_servers_routes(
    vllm: Server, engine: Engine, adapters: Path, ours: str
) -> None:
    loaded = post(vllm, "/v1/load_lora_adapter", lora_name="loud", lora_path="shouting")
    assert loaded.status_code == 200, loaded.text
    served = {model["id"] for model in httpx.get(f"{vllm.url}/v1/models", timeout=60).json()["data"]}
    assert {"tiny", "loud"} <= served
    engine.adapters.load("loud", adapters / "shouting")
    params = SamplingParams(max_tokens=40, temperature=0, ignore_eos=True)
    engine.add_request("", PROMPT, params, adapter="loud")
    expected = run(engine)["", 0].text
    assert expected != ours
    asked = GREEDY | {"max_tokens": 40, "ignore_eos": True}
    answers = [post(vllm, "/v1/completions", **asked | {"model": name}).json() for name in ("loud", "tiny")]
    assert [answer["choices"][0]["text"] for answer in answers] == [expected, ours]
    assert post(vllm, "/v1/unload_lora_adapter", lora_name="loud").status_code == 200
    assert post(vllm, "/v1/completions", **asked | {"model": "loud"}).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "param", "words"),
    [
        ("/v1/embeddings", {"input": "hi"}, "model", "server.embedding_model"),
        ("/v1/completions", {"prompt": [5] * 5000}, "prompt", "maximum context length is 4096"),
        ("/v1/completions", {"prompt": [5, 999]}, "prompt", "999 is not a token id"),
        ("/v1/completions", {"prompt": "hi", "best_off": 2}, "best_off", "Unknown parameter"),
    ],
)
def test_what_cannot_be_done_is_refused_in_the_servers_words(
    vllm: Server, path: str, body: dict[str, Any], param: str, words: str
) -> None:
    refused = post(vllm, path, model="tiny", **body)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param)
    assert words in error["message"]


def test_what_a_client_leaves_behind_is_ended(client: openai.OpenAI, vllm: Server) -> None:
    stream = client.completions.create(stream=True, n=4, **asked_for(LONG))
    next(iter(stream))
    assert vllm.metric("num_requests_running") > 0
    assert vllm.metric("kv_cache_usage_perc") > 0
    before = vllm.metric("generation_tokens_total")
    stream.close()
    vllm.wait_until_idle()
    assert vllm.metric("generation_tokens_total") < before + 4 * 1500
    assert httpx.get(f"{vllm.url}/ping", timeout=60).status_code == 200
    assert httpx.get(f"{vllm.url}/model/info", timeout=60).json()["max_context"] == 4096


def asked_for(body: dict[str, Any]) -> dict[str, Any]:
    """A body as the arguments of OpenAI's client, which does not know `ignore_eos`."""
    return {name: value for name, value in body.items() if name != "ignore_eos"} | {
        "extra_body": {"ignore_eos": True}
    }


def test_sigterm_finishes_what_runs(client: openai.OpenAI, vllm: Server) -> None:  # the last of this server
    processes = psutil.Process(vllm.process.pid).children(recursive=True)
    stream = client.completions.create(stream=True, **asked_for(LONG | {"max_tokens": 60}))
    chunks = [next(stream)]
    vllm.process.send_signal(signal.SIGTERM)
    wait_for(lambda: httpx.get(f"{vllm.url}/ping", timeout=60).status_code == 503)
    assert post(vllm, "/v1/completions", **GREEDY).json()["error"]["code"] == "shutting_down"
    chunks += stream
    assert chunks[-1].choices[0].finish_reason == "length"
    assert vllm.process.wait(25) == 0
    assert not psutil.wait_procs(processes, timeout=10)[1]


@pytest.mark.parametrize("victim", ["engine", "worker"])
def test_of_several_processes_none_outlives_another(
    vllm_model: Path, tmp_path: Path, ours: str, victim: str
) -> None:
    with start(vllm_model, tmp_path / "log", tensor_parallel_size=2) as server, server.client() as client:
        asked = GREEDY | {"max_tokens": 40, "extra_body": {"ignore_eos": True}}
        assert client.completions.create(**asked).choices[0].text == ours
        (child,) = psutil.Process(server.process.pid).children()
        processes = [child, *child.children(recursive=True)]
        workers = [process for process in processes[1:] if "Worker" in "".join(process.cmdline())]
        stream = client.completions.create(stream=True, **asked_for(LONG | {"max_tokens": 4000}))
        next(iter(stream))
        (child if victim == "engine" else workers[-1]).kill()
        with pytest.raises(openai.APIError):
            list(stream)
        assert httpx.get(f"{server.url}/ping", timeout=60).status_code == 503
        assert server.process.wait(25) == 1
        assert not psutil.wait_procs(processes, timeout=20)[1]
