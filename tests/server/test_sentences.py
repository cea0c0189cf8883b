"""Embeddings by a sentence model: the real library over a tiny random BERT."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from byollm.server.errors import ServerError
from byollm.server.sentences import SentenceModel, batches
from tests.server.support import COMMAND, PATIENCE_S, Server, serving

LONGEST = 64
SIZE = 24
TEXTS = ["the cat", "a dog ran after the cat in the rain", "rain " * 60, "é"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout that sentence-transformers writes: a transformer, then the mean of its states."""
    directory = tmp_path_factory.mktemp("sentences") / "tiny-bert"
    trained = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer()
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    trained.train_from_iterator(["the cat sat on the mat and a dog ran after the cat in the rain"], trainer)
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=trained, model_max_length=LONGEST, pad_token="[PAD]", unk_token="[UNK]"
    )
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=trained.get_vocab_size(),
        hidden_size=SIZE,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=LONGEST,
    )
    transformers.BertModel(config).eval().save_pretrained(directory)
    parts = [("Transformer", ""), ("Pooling", "1_Pooling")]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(parts)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": SIZE, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": LONGEST}))
    return directory


@pytest.fixture(scope="module")
def embedder(
    model_directory: Path, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving(model_directory, log, "--embedding-model", str(directory)) as server:
        yield server


@pytest.fixture
def client(embedder: Server) -> Iterator[openai.OpenAI]:
    with embedder.client() as client:
        yield client


@pytest.fixture
def http(embedder: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=embedder.url, timeout=PATIENCE_S) as http:
        yield http


@torch.no_grad()
def reference(directory: Path, text: str) -> tuple[list[float], int]:
    """What transformers makes of a text, and of how many tokens."""
    tokens = transformers.AutoTokenizer.from_pretrained(directory)(text, return_tensors="pt")["input_ids"]
    model = transformers.BertModel.from_pretrained(directory).eval()
    return model(tokens).last_hidden_state[0].mean(0).tolist(), tokens.shape[1]


def test_texts_are_embedded_by_the_sentence_model(client: openai.OpenAI, directory: Path) -> None:
    answer = client.embeddings.create(model="tiny-bert", input=TEXTS, encoding_format="float")
    expected = [reference(directory, text) for text in TEXTS]
    assert answer.model == "tiny-bert"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(count for _, count in expected)
    for entry, (vector, _) in zip(answer.data, expected, strict=True):
        assert entry.embedding == pytest.approx(vector, abs=1e-5)
    packed = client.embeddings.create(model="tiny-bert", input=TEXTS[0], encoding_format="base64")
    raw: Any = packed.data[0].embedding
    assert np.frombuffer(base64.b64decode(raw), "<f4").tolist() == pytest.approx(expected[0][0], abs=1e-5)


def test_the_model_itself_embeds_under_its_own_name(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model="tiny", input="the cat").data[0].embedding) == 32


def test_invocations_embed_by_the_sentence_model_unless_another_is_named(http: httpx.Client) -> None:
    for body, size in ({}, SIZE), ({"model": "tiny-bert", "dimensions": SIZE}, SIZE), ({"model": "tiny"}, 32):
        answer = http.post("/invocations", json=body | {"input": "the cat"}).json()
        assert len(answer["data"][0]["embedding"]) == size


def test_both_models_are_listed(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == ["tiny", "tiny-bert"]
    assert client.models.retrieve("tiny-bert").model_dump()["max_model_len"] == LONGEST
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="tiny-bert", messages=[{"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"input": "rain " * (LONGEST - 1)}, "input", "context_length_exceeded"),
        ({"input": ["the cat", "rain " * 5000]}, "input", "context_length_exceeded"),
        ({"input": ["the cat", ""]}, "input", "invalid_value"),
        ({"input": [5, 6]}, "input", "invalid_value"),
        ({"input": ["rain " * 50] * 2048, "dimensions": SIZE + 1}, "dimensions", "invalid_value"),
        ({"model": "tiny-bart"}, "model", "model_not_found"),
    ],
)
def test_what_it_cannot_embed_is_refused_by_name(
    http: httpx.Client, changes: dict[str, Any], param: str, code: str
) -> None:
    response = http.post("/v1/embeddings", json={"model": "tiny-bert", "input": "a"} | changes)
    error = response.json()["error"]
    assert response.status_code == (404 if param == "model" else 400)
    assert (error["param"], error["code"]) == (param, code)


def test_answers_go_on_while_sentences_are_embedded(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "the cat", "max_tokens": 40, "temperature": 0}
    alone = client.completions.create(**asked).choices[0].text
    finished = threading.Event()

    def embed() -> None:
        client.embeddings.create(model="tiny-bert", input=["rain " * 50] * 2000)
        finished.set()

    thread = threading.Thread(target=embed)
    thread.start()
    assert client.completions.create(**asked).choices[0].text == alone
    assert not finished.is_set(), "two thousand texts take longer than forty tokens"
    thread.join()
    assert finished.is_set()


def test_batches_are_bounded_with_their_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byollm.server.sentences.MOST_BATCH_TOKENS", 20)
    assert list(batches([9, 2, 3, 25, 4, 9])) == [[1, 2, 4], [0, 5], [3]]


def test_without_the_library_the_command_that_installs_it_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ServerError, match=r"pip install 'byollm\[sentence\]'"):
        SentenceModel.load(directory)


def test_what_is_no_sentence_model_ends_the_start_with_the_reason(model_directory: Path) -> None:
    for directory, words in ((model_directory, "modules.json"), (model_directory / "none", "modules.json")):
        with pytest.raises(ServerError, match=words):
            SentenceModel.load(directory)
    command = [*COMMAND, "serve", "--port", "0", "--model", str(model_directory)]
    twice = subprocess.run(
        [*command, "--embedding-model", str(model_directory)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=PATIENCE_S,
        check=False,
    )
    assert twice.returncode == 1
    assert "both called 'tiny'" in twice.stderr
    assert "Traceback" not in twice.stderr
