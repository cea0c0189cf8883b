"""The compiled library, found and opened; the other side of interface.h.

It is a plain shared library without Python or torch in it, so it is built in seconds, fits every version of
both, and ctypes releases the interpreter lock while it computes.
"""

import ctypes
import platform
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int32, c_int64, c_uint64, c_void_p
from enum import IntEnum
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

from byollm.settings import ByollmError

PARTS = ("embed", "norm", "qkv", "rotary", "attention", "output", "up", "activation", "down", "head")
"""What `byollm_profile` counts, in its order."""


class KernelError(ByollmError):
    """The library could not do what it was asked for."""


class Precision(IntEnum):
    """How weights are stored; the numbers are those of `enum class Precision` in interface.h."""

    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2
    INT4 = 3
    TILES = 4
    """bfloat16, and so are the activations that meet them, for the tiles of AMX: see `byollm_tiles`."""


class Shape(Structure):
    """`struct Shape` of interface.h."""

    _fields_ = (
        ("vocab", c_int32),
        ("hidden", c_int32),
        ("layers", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("inner", c_int32),
        ("rotary_pairs", c_int32),
        ("layer_norm", c_int32),
        ("gated", c_int32),
        ("parallel", c_int32),
        ("half_cache", c_int32),
        ("eps", c_float),
    )


class Batch(Structure):
    """`struct Batch` of interface.h."""

    _fields_ = (
        ("tokens", c_int32),
        ("ids", c_void_p),
        ("positions", c_void_p),
        ("spans", c_int32),
        ("first_rows", c_void_p),
        ("tables", c_void_p),
        ("first_ids", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("outputs", c_int32),
        ("output_rows", c_void_p),
        ("scores", c_void_p),
        ("hidden", c_void_p),
        ("slots", c_void_p),
    )


class Choice(Structure):
    """`struct Choice` of interface.h."""

    _fields_ = (
        ("seed", c_uint64),
        ("temperature", c_float),
        ("top_p", c_float),
        ("min_p", c_float),
        ("top_k", c_int32),
    )


@cache
def load_library() -> ctypes.CDLL | None:
    """Open the library built for this processor; None where there is none, so that torch has to do."""
    for built in _suitable():
        for suffix in EXTENSION_SUFFIXES:
            if (path := Path(__file__).with_name(f"_{built}{suffix}")).exists():
                return _declared(ctypes.CDLL(str(path)))
    return None


def _suitable() -> list[str]:
    """Name the builds that this processor can run, the fastest first."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    builds = {"AVX2": ["avx2"], "AVX512": ["avx512", "avx2"]}.get(torch.backends.cpu.get_cpu_capability(), [])
    has = torch.cpu.get_capabilities()
    tiles = all(has.get(feature) for feature in ("amx_tile", "amx_bf16", "avx512_vnni"))
    return ["amx", *builds] if "avx512" in builds and tiles else builds


def check(library: ctypes.CDLL, status: int) -> None:
    """Raise what a call of the library reported.

    Raises:
        KernelError: it failed, for example for want of memory.
    """
    if status != 0:
        raise KernelError(f"the CPU kernels failed: {library.byollm_failure().decode()}")


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    library.byollm_failure.restype = c_char_p
    matrix = c_void_p, c_int32, c_char_p  # which model's, of which layer, which
    size = c_int32, c_int32  # out, in
    signatures = {
        "tiles": (c_int32, []),
        "new": (c_void_p, [POINTER(Shape), c_int32]),
        "free": (None, [c_void_p]),
        "linear": (c_int32, [*matrix, c_void_p, c_int32, *size, c_void_p, c_int32]),
        "packed": (c_int32, [*matrix, c_void_p, c_void_p, c_int32, *size, c_void_p, c_int32]),
        "vacate": (c_int32, [c_void_p, c_int32]),
        "adapter": (c_int32, [c_void_p, c_int32, *matrix[1:], c_void_p, c_int32, c_int32]),
        "adapter_target": (
            c_int32,
            [c_void_p, c_int32, *matrix[1:], c_int32, c_int32, c_void_p, *size, c_int32],
        ),
        "vector": (c_int32, [*matrix, c_void_p, c_int64]),
        "table": (c_int32, [c_void_p, c_char_p, c_void_p, c_int32, c_void_p, c_int32]),
        "window": (c_int32, [c_void_p, c_int32, c_int32]),
        "choose": (c_int32, [c_void_p, c_int32, c_int32, c_void_p, c_void_p, c_void_p]),
        "forward": (c_int32, [c_void_p, POINTER(Batch)]),
        "profile": (None, [c_void_p, POINTER(c_double * len(PARTS))]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"byollm_{name}")
        function.restype, function.argtypes = result, arguments
    return library
