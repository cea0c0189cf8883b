"""LoRA adapters made by PEFT itself, for tests."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel


def make_adapter(model: PreTrainedModel, directory: Path, seed: int = 0, **config: Any) -> Path:
    """Save a random adapter of a transformers model, strong enough to change what it says; the model stays.

    Args:
        model: the base.
        directory: where to.
        seed: another gives another adapter.
        config: of `LoraConfig`; by default all linear layers, rank 4.
    """
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False}
    adapted = get_peft_model(model, LoraConfig(**(settings | config)))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    adapted.save_pretrained(directory)
    adapted.unload()
    return directory


def merged(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """A copy of the model with an adapter merged into its weights, by PEFT."""
    import copy

    from peft import PeftModel

    whole: PreTrainedModel = PeftModel.from_pretrained(copy.deepcopy(model), directory).merge_and_unload()
    return whole
