"""Whether the model finds room where it is to be served, and whether the host runs the image."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from byollm.doctor.finding import Finding, failed, passed, warned
from byollm.doctor.patient import Patient
from byollm.settings.endpoint import GUIDE
from byollm.settings.instances import DEFAULT_HOST_CUDA, HOST_IMAGES, INSTANCE_TYPES
from byollm.settings.memory import GIB, Footprint, cache_bytes_per_token


def model_fits(patient: Patient) -> Iterator[Finding]:
    """Weights, the cache of a full batch and what runs them, against the memory of one GPU."""
    page = f"{GUIDE}/multi-model-support.html"
    try:
        config = json.loads((patient.model / "config.json").read_text())
        token = _cache_bytes_a_token(config)
        positions = config["max_position_embeddings"]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        yield failed(
            f"{patient.model} is no model: its config.json cannot be read ({error!r})",
            "Name the directory of a model in Hugging Face's format with --model",
            "https://huggingface.co/docs/transformers/main_classes/configuration",
        )
        return
    weights = _weights_bytes(patient.model)
    if not weights:
        yield failed(f"no weights (*.safetensors) in {patient.model}", "Name the directory of a whole model")
        return

    spec, engine = patient.settings.endpoint, patient.settings.engine
    instance = INSTANCE_TYPES[spec.instance_type]
    context, batch = engine.max_context or positions, spec.scaling.concurrency
    # Sharing a model out over GPUs shares out its cache too.
    footprint = Footprint(weights_gib=weights / GIB / spec.gpus, token_bytes=token // spec.gpus)
    has = instance.model_memory_gib
    place = f"one {instance.gpu} of {spec.instance_type}" if instance.gpu else spec.instance_type
    sum_ = f"{footprint.arithmetic(context, batch)}; {place} has {has}"
    if footprint.needs_gib(context) > has:
        yield failed(
            f"{sum_}: not even one request of full length fits",
            "Run `byollm quantize` on it, shorten engine.max_context, or choose a larger instance type",
            page,
        )
    elif footprint.needs_gib(context, batch) > has:
        fit = footprint.requests(has, context)
        yield warned(
            f"{sum_}: {fit} requests of full length fit at once, the others wait",
            f"Set endpoint.scaling.concurrency to {fit}, or choose a larger endpoint.instance_type",
            page,
        )
    else:
        yield passed(sum_)
    if weights / GIB > spec.weights_gib:
        yield warned(
            f"endpoint.weights_gib says {spec.weights_gib:g}, and the model has {weights / GIB:.2f} GiB",
            f"Set it to {weights / GIB:.2f}, so that the settings refuse what it does not fit",
        )


def host(patient: Patient) -> Iterator[Finding]:
    """The driver of the endpoint's hosts runs the CUDA of the image; settings refuse what does not."""
    spec = patient.settings.endpoint
    if not INSTANCE_TYPES[spec.instance_type].gpus:
        yield passed(f"{spec.instance_type} has no GPU, so no driver")
        return
    major, minor = HOST_IMAGES[spec.host_image] if spec.host_image else DEFAULT_HOST_CUDA
    yield passed(
        f"{spec.host_image or 'the default host'} runs CUDA {major}.{minor} at most; "
        f"the image has {spec.image_cuda}"
    )


def _cache_bytes_a_token(config: dict[str, Any]) -> int:
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    kv_heads = config.get("num_key_value_heads") or heads
    return cache_bytes_per_token(config["num_hidden_layers"], kv_heads, width)


def _weights_bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))
