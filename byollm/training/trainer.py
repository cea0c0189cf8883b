"""The loop: steps, validations, checkpoints, and going on where a killed run stopped."""

import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from byollm.modeling import Decoder
from byollm.settings.training import Recipe
from byollm.training.checkpoints import Checkpoint, Checkpoints
from byollm.training.compiler import compiler_fault
from byollm.training.curve import draw_curve
from byollm.training.hardware import Hardware
from byollm.training.identity import check_identity
from byollm.training.interruption import Interruption
from byollm.training.plan import total_steps
from byollm.training.reporter import Reporter
from byollm.training.rows import Rows
from byollm.training.run_log import RunLog, read_log
from byollm.training.stepper import Stepper
from byollm.training.validation import Validation, Validator

CURVE_SECONDS = 60.0  # between two drawings while the run goes on
WEIGHTS, OPTIMIZERS, RANDOM = "model.", "optimizer.", "random.cpu"


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    steps: int
    total_steps: int
    tokens: int
    seconds: float
    peak_flops: float
    validation: Validation | None
    interrupted: signal.Signals | None

    @property
    def finished(self) -> bool:
        """Whether all steps were taken."""
        return self.steps == self.total_steps


class Trainer:
    """Trains a decoder; everything that is written goes to the directory of the run.

    Args:
        model: on the hardware's device, with its first weights
        recipe: how to train
        train: rows to train on
        val: rows to validate on
        bytes_per_token: text bytes for each token that counts in `val`
        run: the directory of the run
        identity: what must be the same for the run to be continued
        reporter: shows progress
    """

    def __init__(
        self,
        model: Decoder,
        recipe: Recipe,
        hardware: Hardware,
        train: Rows,
        val: Rows,
        bytes_per_token: float,
        run: Path,
        identity: Mapping[str, Any],
        reporter: Reporter,
    ) -> None:
        self._started = time.perf_counter()
        self._model, self._recipe, self._hardware, self._run = model, recipe, hardware, run
        self._identity, self._reporter = dict(identity), reporter
        fault = compiler_fault() if recipe.compile else None
        if fault is not None:
            reporter.note(f"training without torch.compile, more slowly: {fault}")
        elif recipe.compile:
            reporter.note("compiling the model: the first step takes a minute or two")
        self._compiled = recipe.compile and fault is None
        self._epoch = train.windows_per_epoch(recipe.sequence_length)
        self._validator = Validator(val, bytes_per_token, recipe.sequence_length, recipe.batch_size, hardware)
        self._stepper = Stepper(model, train, recipe, hardware, self._compiled)
        self._checkpoints = Checkpoints(run / "checkpoints", reporter.note)
        self._step, self._total, self._seconds, self._peak = 0, 0, 0.0, 0.0
        self._validation: Validation | None = None
        self._drawn = time.monotonic()

    def train(self) -> Outcome:
        """Take all steps that are left; stop early, after a checkpoint, on SIGTERM or SIGINT.

        Raises:
            ResumeError: the directory holds a run with another identity, or one that cannot be read.
            DivergenceError: the loss is no longer finite.
            TrainingError: the data does not fit the model, or the log cannot be written.
        """
        with self._hardware.deterministic():
            return self._train()

    def _train(self) -> Outcome:
        checkpoint = self._checkpoints.newest(self._misses)
        if checkpoint is None:
            self._peak = self._hardware.peak_flops()
            torch.manual_seed(self._recipe.seed)
            self._total = total_steps(
                self._recipe, self._stepper, self._validator, self._epoch, self._started
            )
            self._log = RunLog(self._run / "log.jsonl")
            self._save()
        else:
            self._restore(checkpoint)
        with Interruption() as interruption:
            self._reporter.start(self._step, self._total)
            try:
                self._loop(interruption)
            finally:
                self._reporter.stop()
                self._log.close()
        return Outcome(
            steps=self._step,
            total_steps=self._total,
            tokens=self._step * self._stepper.tokens,
            seconds=self._elapsed(),
            peak_flops=self._peak,
            validation=self._validation,
            interrupted=interruption.received,
        )

    def _loop(self, interruption: Interruption) -> None:
        saved = time.monotonic()
        while self._step < self._total and interruption.received is None:
            self._take_step()
            finished = self._step == self._total
            if self._validates(self._step):
                self._validate(None if finished else self._recipe.validation_tokens)
            due = time.monotonic() - saved >= 60 * self._recipe.checkpoint_minutes
            if finished or due or interruption.received is not None:
                self._save()
                saved = time.monotonic()
        self._draw()

    def _take_step(self) -> None:
        start = time.perf_counter()
        loss, norm, share = self._stepper.take(self._step, self._total)
        speed = self._stepper.tokens / (time.perf_counter() - start)
        self._step += 1
        flops = 3 * self._model.config.flops_per_token(self._recipe.sequence_length)
        record = {
            "step": self._step,
            "loss": loss,
            "tokens": self._step * self._stepper.tokens,
            "gradient_norm": norm,
            "learning_rate": share * self._recipe.learning_rate,
            "matrix_learning_rate": share * self._recipe.matrix_learning_rate,
            "tokens_per_second": round(speed, 1),
            "mfu": round(speed * flops / self._peak, 4),
            "seconds": round(self._elapsed(), 3),
        }
        self._log.append(record)
        self._reporter.step(record)

    def _validates(self, step: int) -> bool:
        """Whether one of the recipe's evenly spread validations falls on `step`."""
        count = self._recipe.validations
        return step * count // self._total > (step - 1) * count // self._total

    def _validate(self, tokens: int | None) -> None:
        self._validation = self._validator.validate(self._model, tokens)
        record = {
            "step": self._step,
            "tokens": self._step * self._stepper.tokens,
            "validation": asdict(self._validation),
            "seconds": round(self._elapsed(), 3),
        }
        self._log.append(record)
        self._reporter.validation(record)
        if time.monotonic() - self._drawn >= CURVE_SECONDS:
            self._draw()

    def _draw(self) -> None:
        try:
            draw_curve(read_log(self._run / "log.jsonl"), self._run / "curve.png")
        except (OSError, ModuleNotFoundError) as error:
            self._reporter.note(f"the curve could not be drawn ({error}); the log has what it shows")
        self._drawn = time.monotonic()

    def _elapsed(self) -> float:
        return self._seconds + time.perf_counter() - self._started

    def _environment(self) -> dict[str, Any]:
        return self._hardware.describe() | {"compiled": self._compiled}

    def _save(self) -> None:
        weights = {WEIGHTS + name: tensor for name, tensor in self._model.state_dict().items()}
        optimizers = {OPTIMIZERS + name: tensor for name, tensor in self._stepper.optimizers.state().items()}
        state = {
            "identity": self._identity,
            "environment": self._environment(),
            "total_steps": self._total,
            "peak_flops": self._peak,
            "seconds": self._elapsed(),
            "log_bytes": self._log.sync(),
            "validation": None if self._validation is None else asdict(self._validation),
        }
        random = {RANDOM: torch.get_rng_state()}
        self._checkpoints.save(Checkpoint(self._step, weights | optimizers | random, state))

    def _misses(self, state: Mapping[str, Any]) -> str | None:
        """Whether the log ends before a checkpoint: both were copied to S3, and what came last was not."""
        log = self._run / "log.jsonl"
        size, then = log.stat().st_size if log.exists() else 0, state["log_bytes"]
        return f"{log.name} has {size:,} bytes, but had {then:,} then" if size < then else None

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        check_identity(state["identity"], self._identity, self._run)
        for name, now in self._environment().items():
            if (then := state["environment"].get(name)) != now:
                self._reporter.note(
                    f"{name} was {then}, now {now}: the run continues, but not bit for bit as it would have."
                )
        self._model.load_state_dict(_under(WEIGHTS, checkpoint.tensors))
        self._stepper.optimizers.load(_under(OPTIMIZERS, checkpoint.tensors))
        torch.set_rng_state(checkpoint.tensors[RANDOM])
        self._step, self._total = checkpoint.step, state["total_steps"]
        self._seconds, self._peak = state["seconds"], state["peak_flops"]
        self._validation = None if state["validation"] is None else Validation(**state["validation"])
        self._log = RunLog(self._run / "log.jsonl", state["log_bytes"])
        self._reporter.note(f"continuing {self._run} after step {self._step} of {self._total}")


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
