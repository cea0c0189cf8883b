"""How a model is trained: its shape, the recipe, and what is written along the way."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from byollm.settings.base import Section


class ModelShape(Section):
    """The shape of a decoder of the Qwen3 family. The vocabulary comes with the data."""

    hidden_size: Annotated[int, Field(ge=8, multiple_of=2)] = 256
    """Width of the residual stream."""

    layers: Annotated[int, Field(ge=1)] = 6
    """Decoder layers."""

    heads: Annotated[int, Field(ge=1)] = 4
    """Query heads of each layer."""

    kv_heads: Annotated[int, Field(ge=1)] = 2
    """Heads of keys and values; divides `heads`."""

    head_dim: Annotated[int, Field(ge=2, multiple_of=2)] = 64
    """Channels of a head."""

    intermediate_size: Annotated[int, Field(ge=8)] = 704
    """Width of the gated MLP."""

    rope_theta: Annotated[float, Field(gt=1)] = 10_000.0
    """Base of the rotary frequencies."""

    tie_embeddings: bool = True
    """The output head is the token embedding: fewer parameters in a small model."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        return self


class Budget(Section):
    """How long to train. The steps are fixed before the first one, so that a run resumes exactly."""

    amount: Annotated[float, Field(gt=0)]
    """How many of `unit`."""

    unit: Literal["tokens", "steps", "minutes", "epochs"]
    """What is counted. `minutes` are turned into steps once, by timing a few steps on this machine."""


class Recipe(Section):
    """What pretraining and fine-tuning share: one loop, one set of words."""

    budget: Budget = Budget(amount=20_000_000, unit="tokens")
    """How long to train."""

    sequence_length: Annotated[int, Field(ge=8)] = 512
    """Tokens in a row."""

    batch_size: Annotated[int, Field(ge=1)] = 8
    """Rows computed at a time; bounds memory."""

    accumulation: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients are added up to one step."""

    matrix_learning_rate: Annotated[float, Field(gt=0)] = 0.02
    """Peak learning rate of Muon, which trains the matrices inside the layers."""

    learning_rate: Annotated[float, Field(gt=0)] = 0.004
    """Peak learning rate of AdamW, which trains embeddings, head, norms and biases."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    """Decay of the matrices inside the layers, decoupled from the gradient: each step takes this share times
    Muon's learning rate."""

    warmup_fraction: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of the steps in which the learning rates rise from 0."""

    decay_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the steps, the last ones, in which the learning rates fall to 0, constant until then."""

    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of all gradients together; a longer one is shortened to it."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Chooses the first weights and the order of the data."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; `auto` takes a GPU where there is one."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products. Weights and optimiser state are float32 always. `auto` takes bfloat16
    where the hardware multiplies it natively: on CUDA, and on CPUs with AVX512-BF16 or AMX."""

    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 leaves the choice to torch: all cores unless OMP_NUM_THREADS says otherwise."""

    compile: bool = True
    """Compile the model with torch.compile. On a CPU that needs a C++ compiler; where there is none, it is
    skipped with a notice."""

    checkpoint_minutes: Annotated[float, Field(ge=0)] = 2.0
    """Minutes between checkpoints, which is what a killed run loses at most; 0 writes one after each step."""

    validations: Annotated[int, Field(ge=1)] = 20
    """Validations spread over the run, the last one at its end."""

    validation_tokens: Annotated[int, Field(ge=1)] = 131_072
    """Tokens of a validation on the way, spread over the split; the last validation reads the whole split."""


class PretrainSettings(Recipe):
    """A language model from scratch: its shape and how it is trained."""

    model: ModelShape = ModelShape()
    """The shape of the model."""


class FinetuneSettings(Recipe):
    """Teaching a model to answer: the same loop over conversations, with loss on the answers only."""

    budget: Budget = Budget(amount=3, unit="epochs")
    """How long to train."""

    matrix_learning_rate: Annotated[float, Field(gt=0)] = 0.004
    """Peak learning rate of Muon, which trains the matrices inside the layers."""

    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Peak learning rate of AdamW, which trains embeddings, head, norms and biases."""

    decay_fraction: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the steps, the last ones, in which the learning rates fall to 0, constant until then."""

    validations: Annotated[int, Field(ge=1)] = 6
    """Validations spread over the run, the last one at its end."""
