"""Tiny models of every family as transformers makes them, and tokenizers of both kinds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from byollm.modeling import DecoderConfig
from tests.modeling.variants import FAMILIES, VARIANTS, hf_config

transformers.utils.logging.disable_progress_bar()


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    """The name of each variant in turn."""
    return str(request.param)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """The name of each family in turn; each is a variant as well."""
    return str(request.param)


@pytest.fixture
def make_reference() -> Callable[[str], Any]:
    """Makes transformers' model of a variant, every parameter drawn at random, biases and norms too."""

    def make(variant: str) -> Any:
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(hf_config(variant), attn_implementation="eager")
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name or ".ln_" in name
            torch.nn.init.normal_(parameter, mean=1.0 if is_norm and name.endswith("weight") else 0, std=0.15)
        return model.eval()

    return make


@pytest.fixture
def make_config() -> Callable[[str], DecoderConfig]:
    """Makes our config of a variant."""
    return lambda variant: DecoderConfig.from_hf(hf_config(variant).to_dict())


@pytest.fixture
def tokens() -> Tensor:
    """Two sequences of random tokens."""
    return torch.randint(0, 131, (2, 40), generator=torch.Generator().manual_seed(2))


CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXT = [
    "The quick brown fox jumps over the lazy dog. Füchse springen, 漢字 and 😀 too. hello world hello"
] * 4


def write_tokenizer(directory: Path, tokenizer: tokenizers.Tokenizer, **config: Any) -> Path:
    """Write a tokenizer as a Hugging Face directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | config
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def byte_level() -> tokenizers.Tokenizer:
    """Byte-level BPE, as Qwen and Llama 3 have it."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("<tool call>", special=False)])
    return tokenizer


def sentencepiece() -> tokenizers.Tokenizer:
    """BPE with byte fallback and U+2581 for spaces, as Llama 2 and Mistral have it."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    merges = [("▁", "h"), ("l", "l"), ("▁", "w"), ("o", "r"), ("▁", "▁")]
    for token in [*"▁abcdefghijklmnopqrstuvwxyzü漢", *("".join(pair) for pair in merges)]:
        vocab[token] = len(vocab)
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def metaspace() -> tokenizers.Tokenizer:
    """BPE with a Metaspace pre-tokenizer and decoder, as newer conversions of SentencePiece have it."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def byte_level_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with a chat template."""
    return write_tokenizer(
        tmp_path_factory.mktemp("byte-level"),
        byte_level(),
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture(scope="session")
def sentencepiece_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with byte fallback and no chat template."""
    return write_tokenizer(
        tmp_path_factory.mktemp("sentencepiece"),
        sentencepiece(),
        bos_token="<s>",
        eos_token={"__type": "AddedToken", "content": "</s>", "special": True},
        unk_token="<unk>",
    )


@pytest.fixture(scope="session")
def metaspace_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with a Metaspace decoder."""
    return write_tokenizer(tmp_path_factory.mktemp("metaspace"), metaspace(), eos_token="</s>")


@pytest.fixture
def double_quantisation_as_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have bitsandbytes round scales as its kernel for GPUs does, on which QLoRA trains.

    Its library for CPUs takes the other neighbour for a few of them in a thousand; its own definition of the
    operation, in torch, does not.
    """
    import bitsandbytes.functional as bnb

    definition = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)

    def quantize_blockwise(weight: Tensor, blocksize: int) -> tuple[Tensor, bnb.QuantState]:
        code = bnb.create_dynamic_map()
        operation = torch.ops.bitsandbytes.quantize_blockwise.default
        codes, largest = operation.redispatch(definition, weight, code, blocksize)
        return codes, bnb.QuantState(absmax=largest, code=code, blocksize=blocksize, dtype=weight.dtype)

    monkeypatch.setattr(bnb, "quantize_blockwise", quantize_blockwise)
