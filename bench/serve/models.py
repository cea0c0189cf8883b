"""The models that are measured: the bundled one, and the shape of SmolLM2-135M with random weights."""

import json
from pathlib import Path

import torch

from byollm.modeling import Decoder, DecoderConfig, Tokenizer, save_decoder
from byollm.settings import REPOSITORY

BUNDLED = REPOSITORY / "models" / "byollm-tiny"
SMOLLM = DecoderConfig(
    family="llama",
    vocab_size=49_152,
    hidden_size=576,
    layers=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    intermediate_size=1536,
    max_positions=2048,
    norm_eps=1e-5,
    rope_theta=100_000.0,
    qk_norm=False,
    tie_embeddings=True,
)


def model_directory(name: str, made: Path) -> Path:
    """Return the directory of `bundled`, of `smollm2-135m`, made in `made` at first, or of a path."""
    if name == "bundled":
        return BUNDLED
    if name != "smollm2-135m":
        return Path(name)
    directory = made / name
    if not (directory / "config.json").exists():
        torch.manual_seed(0)
        save_decoder(Decoder(SMOLLM).bfloat16(), directory, Tokenizer.load(BUNDLED))
        _widen(directory / "tokenizer.json", SMOLLM.vocab_size)
    return directory


def _widen(tokenizer: Path, size: int) -> None:
    """Give every token of a larger vocabulary a text: servers send none for those without."""
    contents = json.loads(tokenizer.read_text())
    vocab = contents["model"]["vocab"]
    vocab |= {f"\u0120{number}": number for number in range(len(vocab), size)}
    tokenizer.write_text(json.dumps(contents, ensure_ascii=False))
