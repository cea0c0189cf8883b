"""Models whose weights are packed: which parameters are, under which names, and what `config.json` says.

On disk a packed model has the names of `Decoder.state_dict()`: `layers.0.self_attn.q_proj.codes` and
`.scales` in the place of `.weight`. In each file of safetensors the tensors of wider types stand first, as
safetensors writes them, so that every tensor is aligned in the mapped file.
"""

import re
from collections.abc import Mapping
from typing import Any

from byollm.kernels.packed import NF4_GROUP, NF4_VALUES, PackedWeight, Scheme
from byollm.modeling.errors import ModelConfigError
from byollm.modeling.hugging_face import QUANTIZATION, QUANTIZED_BY_US

__all__ = [
    "NF4_GROUP",
    "NF4_VALUES",
    "PackedWeight",
    "Scheme",
    "packed_names",
    "quantization_config",
    "read_scheme",
    "scheme_of",
]

VERSION = 1
_LINEAR = re.compile(r"layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight")
_TABLES = ("embed_tokens.weight", "lm_head.weight")


def scheme_of(parameter: str, scheme: Scheme) -> Scheme | None:
    """Return how a parameter of a decoder is packed where its model is packed by `scheme`; None: not.

    Linear layers take the scheme. Embedding and head are packed into 8 bits, but for nf4, which leaves them
    as they are, as bitsandbytes does. Norms, biases and learned positions are never packed.
    """
    if _LINEAR.fullmatch(parameter):
        return scheme
    if parameter in _TABLES and scheme.kind != "nf4":
        return Scheme("int8", scheme.group)
    return None


def packed_names(parameter: str) -> tuple[str, str]:
    """Return the names of the codes and of the scales into which a parameter `*.weight` is packed."""
    stem = parameter.removesuffix("weight")
    return f"{stem}codes", f"{stem}scales"


def quantization_config(scheme: Scheme, *, calibrated: bool) -> dict[str, Any]:
    """Return what `config.json` says under `quantization_config`."""
    said = {"quant_method": QUANTIZED_BY_US, "version": VERSION, "scheme": scheme.kind, "group": scheme.group}
    return said | {"calibrated": calibrated} | ({"double": True} if scheme.double else {})


def read_scheme(config: Mapping[str, Any]) -> Scheme | None:
    """Return how the model of a `config.json` is packed; None: it is not.

    Raises:
        ModelConfigError: it is packed in a way that this version does not know.
    """
    said = config.get(QUANTIZATION)
    if not said:
        return None
    if said.get("version") != VERSION:
        raise ModelConfigError(
            f"{QUANTIZATION}.version is {said.get('version')!r}, but this byollm reads version {VERSION}; "
            "quantise the model anew with this version, or serve it with the one that wrote it"
        )
    try:
        return Scheme(said["scheme"], said["group"], said.get("double", False))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelConfigError(
            f"{QUANTIZATION} is not as `byollm quantize` writes it ({error!r}); copy the file afresh"
        ) from None
