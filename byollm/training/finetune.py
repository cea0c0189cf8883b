"""Teaching a model to answer: all weights, on conversations, with loss on the answers only."""

from pathlib import Path

import torch

from byollm.data.chat import ConversationDataset
from byollm.data.storage import locked, sha256
from byollm.data.tokenizer import MESSAGE_END
from byollm.modeling.checkpoint import load_decoder
from byollm.modeling.tokenizer import Tokenizer
from byollm.settings.training import FinetuneSettings
from byollm.training.errors import TrainingError
from byollm.training.hardware import Hardware
from byollm.training.identity import identity_of
from byollm.training.reporter import Reporter
from byollm.training.summary import finish
from byollm.training.trainer import Outcome, Trainer


def finetune(
    settings: FinetuneSettings, base: Path, conversations: Path, run: Path, reporter: Reporter | None = None
) -> Outcome:
    """Fine-tune all weights of the model in `base`, or go on with the run in the directory `run`.

    Args:
        base: a model directory whose tokenizer has the ChatML control tokens
        conversations: a directory that `byollm data conversations` wrote

    Raises:
        CheckpointError, TokenizerError: the base cannot be loaded.
        DataError: the conversations are missing, or none fits.
        TrainingError: they do not fit the base, the run cannot be continued, or it diverged.
    """
    reporter = reporter or Reporter()
    tokenizer = Tokenizer.load(base)
    with locked(run):
        hardware = Hardware.choose(settings)
        torch.manual_seed(settings.seed)
        model = load_decoder(base, torch.float32, hardware.device).train()
        if model.scheme is not None:
            raise TrainingError(
                f"{base}: its weights are packed into {model.scheme.kind}, and rounded weights cannot be "
                "trained. Name the model that it was packed from"
            )
        if settings.sequence_length > model.config.max_positions:
            raise TrainingError(
                f"finetune.sequence_length is {settings.sequence_length}, but {base} reads at most "
                f"{model.config.max_positions} tokens. Set it to that, or to less."
            )
        train = ConversationDataset.open(conversations, "train", base)
        val = ConversationDataset.open(conversations, "val", base)
        if train.vocab_size > model.config.vocab_size:
            raise TrainingError(
                f"{base}: the tokenizer has {train.vocab_size:,} tokens, the model only "
                f"{model.config.vocab_size:,}. They do not belong together: copy the directory afresh."
            )
        for name, split in (("training", train), ("validation", val)):
            if skipped := split.skipped(settings.sequence_length):
                reporter.note(
                    f"{skipped} of {split.conversations} {name} conversations are left out: their first "
                    f"answer does not fit into {settings.sequence_length} tokens"
                )
        inputs = {
            "conversations": {split: sha256(conversations / f"{split}.jsonl") for split in ("train", "val")},
            "base": {path.name: sha256(path) for path in sorted(base.glob("*.safetensors"))},
        }
        trainer = Trainer(
            model=model,
            recipe=settings,
            hardware=hardware,
            train=train,
            val=val,
            bytes_per_token=val.bytes / val.answer_tokens,
            run=run,
            identity=identity_of("finetune", settings, **inputs),
            reporter=reporter,
        )
        outcome = trainer.train()
        if outcome.finished:
            ends = [*tokenizer.encode(MESSAGE_END), *tokenizer.eos_ids]
            eos_ids = list(dict.fromkeys(ends))
            finish(run, model, tokenizer, eos_ids, outcome, settings, hardware, command="finetune", **inputs)
        return outcome
