"""What a LoRA adapter says of itself: PEFT's adapter_config.json, refused where slots cannot do what it says.

Knows nothing of tensors.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from byollm.modeling.errors import AdapterError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS)
CONFIG_BYTES = 2**20
# What an adapter's config may say whatever the value: it tells of the training, or is read here.
KNOWN = frozenset(
    {
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
# Other ways to begin change the base model's weights, so that the adapter is none to the original.
INITS = (True, False, None, "gaussian", "eva", "orthogonal")


class AdapterConfig:
    """An adapter's config, whose every field is one that has no say here or is obeyed.

    Args:
        said: its contents.

    Raises:
        AdapterError: it asks for what adapters in slots cannot have; names the field.
    """

    def __init__(self, said: Mapping[str, Any]) -> None:
        _check(said)
        self.base = Path(str(said.get("base_model_name_or_path"))).name  # where it lay is nobody's business
        self._alpha = _number(said, "lora_alpha", 8)
        self._root = bool(said.get("use_rslora"))
        ranks = said.get("rank_pattern") or {}
        if not isinstance(ranks, dict):
            raise AdapterError(f"{CONFIG}: rank_pattern is no object; expected names of modules and numbers")
        self.ranks = [said.get("r", 8), *ranks.values()]
        patterns = said.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise AdapterError(f"{CONFIG}: alpha_pattern is no object; expected names of modules and numbers")
        self._patterns = [(_Pattern(key), _number(patterns, key, 0)) for key in patterns]

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the config of the adapter in a directory.

        Raises:
            AdapterError: it is absent or damaged, or asks for what adapters in slots cannot have.
        """
        try:
            said = json.loads(read_file(directory / CONFIG, CONFIG_BYTES))
        except (ValueError, RecursionError):
            raise AdapterError(f"{CONFIG}: not JSON; copy the file afresh") from None
        if not isinstance(said, dict):
            raise AdapterError(f"{CONFIG}: expected a JSON object; copy the file afresh")
        return cls(said)

    def scaling(self, module: str, rank: int) -> float:
        """Return what a module's B of some rank is multiplied by; `module` as in the base model."""
        alpha = next((value for pattern, value in self._patterns if pattern.matches(module)), self._alpha)
        return alpha / (math.sqrt(rank) if self._root else rank)


class _Pattern:
    """A key of alpha_pattern: the end of a module's name, or after ^ all of it.

    PEFT takes any regular expression. One from a stranger may run for ever, so here it has to be a name.
    """

    def __init__(self, key: str) -> None:
        self._whole, self._name = key.startswith("^"), key.removeprefix("^").replace("\\.", ".")
        if not re.fullmatch(r"[\w.]+", self._name):
            raise AdapterError(
                f"{CONFIG}: alpha_pattern has {quoted(key)}; expected the name of a module, such as "
                "layers.0.self_attn.q_proj: write each module out instead of a regular expression"
            )

    def matches(self, module: str) -> bool:
        return module == self._name or (not self._whole and module.endswith(f".{self._name}"))


def _check(said: Mapping[str, Any]) -> None:
    if said.get("peft_type") != "LORA":
        raise AdapterError(
            f"{CONFIG}: peft_type is {quoted(said.get('peft_type'))}; expected LORA. Train a LoRA adapter, "
            "or merge this one into its model (PEFT's merge_and_unload)"
        )
    if said.get("bias", "none") != "none":
        raise AdapterError(
            f"{CONFIG}: bias is {quoted(said['bias'])}; expected none. Biases belong to the base model: "
            'train with bias="none"'
        )
    init = said.get("init_lora_weights")
    if not (init is None or isinstance(init, bool) or init in INITS):
        raise AdapterError(
            f"{CONFIG}: init_lora_weights is {quoted(init)}, which changes the base model; convert the "
            "adapter with save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    for field, value in said.items():
        if value and field not in KNOWN:
            raise AdapterError(
                f"{CONFIG}: {quoted(field, 60)} is {quoted(value)}, which adapters in slots cannot have. "
                "Train without it, or merge the adapter into its model (PEFT's merge_and_unload)"
            )


def _number(said: Mapping[str, Any], field: str, default: float) -> float:
    value = said.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterError(f"{CONFIG}: {quoted(field, 60)} is {quoted(value)}; expected a number")
    return float(value)


def read_file(path: Path, most: int) -> bytes:
    """Read one of an adapter's files, which may have `most` bytes.

    Raises:
        AdapterError: it is absent, not readable or larger; names the file without its directory.
    """
    try:
        if not path.is_file():
            remedy = "copy the adapter's whole directory, as PEFT's save_pretrained wrote it"
            if path.name == WEIGHTS and path.with_suffix(".bin").exists():
                remedy = "save it with safe_serialization=True: pickled weights could run code"
            raise AdapterError(f"{path.name}: absent; {remedy}")
        with path.open("rb") as file:
            read = file.read(most + 1)
    except OSError as error:
        raise AdapterError(f"{path.name}: not readable ({error.strerror}); check its permissions") from None
    if len(read) > most:
        raise AdapterError(
            f"{path.name}: larger than {most} bytes, the most that an adapter of this model within the rank "
            "limit (engine.max_adapter_rank) takes"
        )
    return read


def quoted(value: object, most: int = 100) -> str:
    """Something a stranger wrote, kept short."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"
