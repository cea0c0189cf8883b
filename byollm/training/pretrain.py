"""A language model from scratch, on what `byollm data prepare` wrote."""

from pathlib import Path

import torch

from byollm.data.storage import locked, sha256
from byollm.data.tokens import TokenDataset
from byollm.modeling import Decoder, DecoderConfig
from byollm.modeling.tokenizer import Tokenizer
from byollm.settings.training import PretrainSettings
from byollm.training.errors import TrainingError
from byollm.training.hardware import Hardware
from byollm.training.identity import identity_of
from byollm.training.reporter import Reporter
from byollm.training.summary import finish
from byollm.training.trainer import Outcome, Trainer


def pretrain(settings: PretrainSettings, data: Path, run: Path, reporter: Reporter | None = None) -> Outcome:
    """Train a model from scratch, or go on with the run in the directory `run`.

    A finished run has `model/` (Hugging Face layout), `summary.json`, `log.jsonl` and `curve.png` there.

    Args:
        data: a directory that `byollm data prepare` wrote

    Raises:
        DataError: the data is missing or unfinished.
        TrainingError: it does not fit the settings, the run cannot be continued, or it diverged.
    """
    reporter = reporter or Reporter()
    train, val = TokenDataset.open(data, "train"), TokenDataset.open(data, "val")
    train.windows_per_epoch(settings.sequence_length)  # refuses a text too short, before anything is built
    tokenizer = Tokenizer.load(data / "tokenizer")
    if tokenizer.vocab_size != train.vocab_size:
        raise TrainingError(
            f"{data}: the shards were made with a vocabulary of {train.vocab_size:,}, the tokenizer beside "
            f"them has {tokenizer.vocab_size:,}. Prepare anew: byollm data prepare --force --out {data}"
        )
    with locked(run):
        hardware = Hardware.choose(settings)
        torch.manual_seed(settings.seed)
        config = DecoderConfig(
            vocab_size=train.vocab_size,
            max_positions=settings.sequence_length,
            **settings.model.model_dump(),
        )
        model = Decoder(config).to(hardware.device)
        manifest = sha256(data / "manifest.json")
        trainer = Trainer(
            model=model,
            recipe=settings,
            hardware=hardware,
            train=train,
            val=val,
            bytes_per_token=val.bytes / val.tokens,
            run=run,
            identity=identity_of("pretrain", settings, data=manifest),
            reporter=reporter,
        )
        outcome = trainer.train()
        if outcome.finished:
            finish(
                run,
                model,
                tokenizer,
                tokenizer.eos_ids,
                outcome,
                settings,
                hardware,
                command="pretrain",
                data=manifest,
            )
        return outcome
