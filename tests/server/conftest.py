"""A tiny random model on disk, and real server processes that serve it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from byollm.modeling import Decoder, DecoderConfig, Tokenizer, save_decoder

VOCAB = 300
CONTEXT = 4096
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of noise over a byte-level vocabulary: most of what it says is broken UTF-8."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer)
    torch.manual_seed(1)
    config = DecoderConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        intermediate_size=48,
        max_positions=CONTEXT,
        tie_embeddings=True,
    )
    decoder = Decoder(config)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if "norm" not in name:
                parameter.mul_(15)  # wide, so that answers vary
    save_decoder(decoder, directory, Tokenizer.load(tokenizer))
    return directory


def save_tokenizer(directory: Path, chat_template: str | None = CHAT_TEMPLATE) -> None:
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(["the cat sat on the mat and the dog ran after the cat in the rain"] * 4, trainer)
    trained.save(str(directory / "tokenizer.json"))
    config = '{"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}'
    (directory / "tokenizer_config.json").write_text(config)
    if chat_template is not None:
        (directory / "chat_template.jinja").write_text(chat_template)


@dataclass
class Server:
    """A running `byollm serve`."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one series of /metrics; 0 if it is not there."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            found = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == f"byollm:{name}":
                given = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                if labels.items() <= given.items():
                    total += float(found[3])
        return total

    def wait_until_idle(self) -> None:
        """Wait until no sequence runs or waits and every cache block is free."""
        wait_for(
            lambda: not (
                self.metric("num_requests_running")
                or self.metric("num_requests_waiting")
                or self.metric("kv_cache_usage_perc")
            )
        )


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextlib.contextmanager
def serving(
    model: Path, log: Path, *options: str, ready: bool = True, **settings: object
) -> Iterator[Server]:
    """Start `byollm serve` on a free port; `settings` such as `server__max_requests` become variables."""
    variables = {f"BYOLLM__{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "byollm", "serve", "--model", str(model), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | variables,
        )
    try:
        assert process.stdout is not None
        if ready:
            line = process.stdout.readline()
            found = re.fullmatch(r"byollm: serving \S+ at (http://\S+)\n", line)
            assert found, f"{line!r}\n{log.read_text()}"
            url = found[1]
        else:
            wait_for(lambda: "listening on" in log.read_text())
            url = re.findall(r"listening on (http://\S+),", log.read_text())[0]
        yield Server(process, url, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="session")
def server(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving(model_directory, log, server__keep_alive_s=0.5, server__max_body_bytes=2**20) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with server.client() as client:
        yield client


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as http:
        yield http
