"""Tiny random models of every family, and a tiny tokenizer."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from byollm.engine import Engine
from byollm.modeling import Decoder, DecoderConfig, Tokenizer, load_decoder
from byollm.settings.engine import EngineSettings

torch.set_num_threads(1)

VOCAB = 300
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # wide, so that answers vary
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 16, "tie_word_embeddings": True},
    "qwen2": {},
    "llama": {"attention_bias": False},
    "mistral": {"sliding_window": 24},
    "stablelm": {"partial_rotary_factor": 0.5, "use_qkv_bias": True, "layer_norm_eps": 1e-5},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "n_inner": 64},
}


@pytest.fixture(scope="session")
def family_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Decoder]]:
    """The transformers model of a family, and ours with the same weights."""

    @cache
    def make(family: str) -> tuple[Any, Decoder]:
        torch.manual_seed(sum(map(ord, family)))
        if family == "gpt2":
            common = {
                "vocab_size": VOCAB,
                "initializer_range": 0.3,
                "bos_token_id": None,
                "eos_token_id": None,
            }
        else:
            common = COMMON
        config = transformers.AutoConfig.for_model(family, **(common | FAMILIES[family]))
        reference = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        directory = tmp_path_factory.mktemp(family)
        reference.save_pretrained(directory)
        return reference, load_decoder(directory, torch.float32)

    return make


@pytest.fixture(scope="session")
def decoder() -> Decoder:
    """A small decoder of our own making, for tests that need no reference."""
    return make_decoder()


def make_decoder(seed: int = 0, **changes: Any) -> Decoder:
    """A random Qwen3; its weights are scaled up so that its answers vary."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "intermediate_size": 48,
        "max_positions": 256,
        "tie_embeddings": True,
    }
    model = Decoder(DecoderConfig(**(shape | changes)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(15)
    return model


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A byte-level BPE tokenizer with a few merges; id 0 is end of text."""
    directory = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(directory)
    return Tokenizer.load(directory)


def save_tokenizer(directory: Path) -> None:
    """Train the tiny tokenizer and write its files."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(
        ["the cat sat on the mat and the dog ran after the cat in the rain"] * 4, trainer
    )
    trained.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')


@pytest.fixture
def make_engine(decoder: Decoder) -> Callable[..., Engine]:
    """An engine over the small decoder, or over one that is given."""

    def make(tokenizer: Tokenizer | None = None, model: Decoder | None = None, **changes: Any) -> Engine:
        settings = EngineSettings(
            **({"cache_blocks": 64, "max_running": 8, "max_batch_tokens": 64} | changes)
        )
        return Engine(model or decoder, tokenizer, settings)

    return make
