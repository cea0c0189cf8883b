"""A tiny random model on disk, and real server processes that serve it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from byollm.modeling import Decoder, DecoderConfig, Tokenizer, save_decoder
from tests.server.support import CONTEXT, PATIENCE_S, VOCAB, Server, serving

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
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
    trained.train_from_iterator(
        ["the cat sat on the mat and the dog ran after the cat in the rain"] * 4, trainer
    )
    trained.save(str(directory / "tokenizer.json"))
    config = '{"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}'
    (directory / "tokenizer_config.json").write_text(config)
    if chat_template is not None:
        (directory / "chat_template.jinja").write_text(chat_template)


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
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as http:
        yield http
