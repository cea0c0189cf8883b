"""The models that are measured: the bundled one, and the shapes of larger ones with random weights."""

import json
from pathlib import Path

import torch

from byollm.modeling import Decoder, DecoderConfig, Tokenizer, save_decoder
from byollm.modeling.undrawn import undrawn
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
STABLELM = DecoderConfig(  # StableLM-3B's
    family="stablelm",
    vocab_size=50_304,
    hidden_size=2560,
    layers=32,
    heads=32,
    kv_heads=32,
    head_dim=80,
    intermediate_size=6912,
    max_positions=4096,
    norm="layer",
    norm_bias=True,
    rotary_dim=20,
    qk_norm=False,
    tie_embeddings=False,
)
SHAPES = {"smollm2-135m": SMOLLM, "stablelm-3b": STABLELM}


def model_directory(name: str, made: Path) -> Path:
    """Return the directory of `bundled`, of one of `SHAPES`, made in `made` at first, or of a path."""
    if name == "bundled":
        return BUNDLED
    if (config := SHAPES.get(name)) is None:
        return Path(name)
    directory = made / name
    if not (directory / "config.json").exists():
        save_decoder(_drawn(config), directory, Tokenizer.load(BUNDLED))
        _widen(directory / "tokenizer.json", config.vocab_size)
    return directory


def _drawn(config: DecoderConfig) -> Decoder:
    """Return a decoder with random weights, never held in more than bfloat16."""
    torch.manual_seed(0)
    decoder = undrawn(config).bfloat16().to_empty(device="cpu")
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.02)
    return decoder


def _widen(tokenizer: Path, size: int) -> None:
    """Give every token of a larger vocabulary a text: servers send none for those without."""
    contents = json.loads(tokenizer.read_text())
    vocab = contents["model"]["vocab"]
    vocab |= {f"\u0120{number}": number for number in range(len(vocab), size)}
    tokenizer.write_text(json.dumps(contents, ensure_ascii=False))
