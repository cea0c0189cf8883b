"""A tiny model, the text that its tokenizer was made of, and what transformers says of it."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from byollm.data.prepare import prepare
from byollm.modeling import Decoder, DecoderConfig, Tokenizer, load_decoder, save_decoder
from byollm.settings import DataSettings
from byollm.training.evaluation.scorer import DecoderScorer
from tests.training.evaluation.support import CONTEXT, sentence


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text prepared by the real command's function: a tokenizer and token shards."""
    directory = tmp_path_factory.mktemp("prepared")
    chance = random.Random(0)
    documents = ["\n".join(sentence(chance) for _ in range(12)) for _ in range(40)]
    (directory / "text.txt").write_text("\n\n".join(documents))
    settings = DataSettings.model_validate(
        {
            "directory": directory,
            "output": directory / "out",
            "sources": [{"path": "text.txt", "documents": "blank-lines"}],
            "conversations": [],
            "vocab_size": 280,
        }
    )
    prepare(settings)
    return settings.output


@pytest.fixture(scope="session")
def model(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with the tokenizer of the prepared text."""
    tokenizer = Tokenizer.load(prepared / "tokenizer")
    torch.manual_seed(1)
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_positions=CONTEXT,
        qk_norm=True,
        tie_embeddings=True,
    )
    decoder = Decoder(config)
    with torch.no_grad():
        decoder.embed_tokens.weight.mul_(20)  # likelihoods that differ
    directory = tmp_path_factory.mktemp("model") / "tiny"
    save_decoder(decoder, directory, tokenizer=tokenizer)
    return directory


@pytest.fixture(scope="session")
def scorer(model: Path) -> DecoderScorer:
    return DecoderScorer(load_decoder(model, torch.float32), Tokenizer.load(model))


@pytest.fixture(scope="session")
def reference(model: Path) -> Callable[[list[int], int], tuple[float, bool]]:
    """Log-likelihood of the last tokens of a sequence, and whether they are greedy, by transformers."""
    from transformers import AutoModelForCausalLM

    peer = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)

    @torch.inference_mode()
    def likelihood(ids: list[int], scored: int) -> tuple[float, bool]:
        logits = peer(torch.tensor([ids[:-1]])).logits[0, -scored:].double()
        targets = torch.tensor(ids[-scored:])
        chosen = F.log_softmax(logits, dim=-1).gather(1, targets[:, None])
        return float(chosen.sum()), bool((logits.argmax(-1) == targets).all())

    return likelihood
