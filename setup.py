"""Builds the C++ kernels, a library for each instruction set; where that fails, torch does their work."""

from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("byollm/kernels/cpu")
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
INSTRUCTION_SETS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": AVX512,
    "amx": [*AVX512, "-mavx512vnni", "-mamx-tile", "-mamx-bf16"],
}

setup(
    ext_modules=[
        Extension(
            f"byollm.kernels.cpu._{name}",
            sources=[str(SOURCES / "library.cpp")],
            depends=[str(header) for header in sorted(SOURCES.glob("*.h"))],
            extra_compile_args=["-std=c++20", "-O3", "-fno-math-errno", *flags],
            py_limited_api=True,  # it is a plain library, the same for every Python
            optional=True,
        )
        for name, flags in INSTRUCTION_SETS.items()
    ]
)
