"""The settings of the inference engine."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from byollm.settings.base import Section
from byollm.settings.vllm import KEPT, VllmOptions, no_use


class EngineSettings(Section):
    """How much the engine takes on at once, and with which numbers it computes."""

    backend: Literal["byollm", "vllm"] = "byollm"
    """What computes: byollm's own engine, or vLLM, for models that are larger than one GPU or of another kind
    (docs/vllm.md). In a file, `engine: vllm` says the same, and as a variable `BYOLLM__ENGINE=vllm`."""

    vllm: VllmOptions = {}  # noqa: RUF012 (pydantic copies it)
    """Options for vLLM under its own names, such as `{tensor_parallel_size: 4}`."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `auto` takes CUDA when a GPU is there."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of weights and cache; `auto`: bfloat16 where the device multiplies it natively, else float32.
    Asked for, float32 also keeps adapters from being rounded on a CPU."""

    quantization: Literal["int8", "int4"] | None = None
    """Round the weights to 8 or 4 bits when they are loaded, with a scale for every 32 of them, embeddings
    and head to 8: less memory to read, so faster on a CPU, above all for one request at a time; answers
    change a little. `byollm quantize` does it once and better, and its models load without this."""

    kernels: Literal["auto", "native", "torch"] = "auto"
    """What computes: kernels of our own, compiled for CPUs, in Triton for GPUs, or torch, which runs
    everywhere with the same tokens. `auto` takes ours where they are; `native` insists on those for CPUs."""

    kernel_table: Path | None = None
    """How the kernels are launched on a GPU, a file that `byollm tune --out` wrote on the same kind of GPU;
    unset: the user's own for this GPU, where `byollm tune` has made one, else what is best on an A10G."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads that compute together; unset: as many as there are cores, of `cores` or of the machine."""

    cores: Annotated[frozenset[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Processor cores that the engine's process keeps to, by number, such as [0, 1]; unset: all of them."""

    max_context: Annotated[int, Field(ge=2)] | None = None
    """Most tokens of a sequence, prompt and answer together; unset: as many as the model has positions."""

    max_running: Annotated[int, Field(ge=1, le=4096)] = 64
    """Most sequences that are computed in one step; the others wait."""

    max_waiting: Annotated[int, Field(ge=1)] = 10_000
    """Most sequences that may wait beside those running; one more is refused at once."""

    max_batch_tokens: Annotated[int, Field(ge=1)] = 256
    """Token budget of a step: decoding sequences take one each, chunks of prompts fill the rest."""

    cache_blocks: Annotated[int, Field(ge=1)] | None = None
    """Size of the KV cache in blocks of 16 tokens; unset derives it from `cache_bytes`."""

    cache_bytes: Annotated[int, Field(ge=1)] | None = None
    """Size of the KV cache in bytes; unset: what `max_running` full sequences need, if memory allows."""

    prefix_caching: bool = True
    """Whether prompts that begin alike share the cache of what they have in common, later ones included."""

    adapter_slots: Annotated[int, Field(ge=0, le=256)] = 8
    """Most LoRA adapters that the requests of one step may have; others wait until a slot falls free. None
    takes memory before it is used; 0 switches adapters off."""

    max_adapters: Annotated[int, Field(ge=1)] = 64
    """Most adapters that may be loaded; those beyond the slots wait in main memory."""

    max_adapter_rank: Annotated[int, Field(ge=1, le=1024)] = 64
    """The largest rank of an adapter; one with a larger is refused."""

    speculative: Literal["auto", "off"] = "auto"
    """Guess how an answer goes on from what stands before, and check several tokens in one step: the same
    answers, sooner where they quote or repeat. `auto` guesses only where that is likely to pay."""

    speculative_tokens: Annotated[int, Field(ge=1, le=64)] = 8
    """Most tokens guessed at a time."""

    speculative_match: Annotated[int, Field(ge=1, le=64)] = 3
    """How many last tokens must have occurred before for what followed them to be a guess."""

    stream_interval_s: Annotated[float, Field(ge=0, le=1)] = 0.02
    """How long tokens of streamed answers are collected, after the first of an answer: nobody reads faster,
    and to hand on one costs as much as to compute it with a small model. 0 hands on each at once."""

    stall_seconds: Annotated[float, Field(gt=0)] = 8.0
    """A single step that takes longer than this makes the engine count as wedged, hence unhealthy."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_batch_tokens < self.max_running:
            raise ValueError(
                f"max_batch_tokens ({self.max_batch_tokens}) is below max_running ({self.max_running}): "
                "a step could not give every running sequence its token; raise the one or lower the other"
            )
        if self.cache_blocks is not None and self.cache_bytes is not None:
            raise ValueError(
                "cache_blocks and cache_bytes both set the size of the KV cache: set one of them"
            )
        return self

    @model_validator(mode="after")
    def _check_backend(self) -> Self:
        if self.backend == "byollm":
            if self.vllm:
                raise ValueError(
                    "vllm has options, and backend is byollm: set backend: vllm, or take them out"
                )
            return self
        for name, field in type(self).model_fields.items():
            if name not in KEPT and getattr(self, name) != field.default:
                raise ValueError(no_use(name))
        return self
