"""Every kernel compiles for the GPU that it is written for, which need not be there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SHARED = 99 * 1024  # bytes that a program may have on an A10G
KERNELS = {
    "_norm_kernel",
    "_activation_kernel",
    "_rotary_and_store_kernel",
    "_decode_kernel",
    "_reduce_kernel",
    "_prefill_kernel",
    "_shrink_kernel",
    "_expand_kernel",
    "_peak_kernel",
    "_weigh_kernel",
    "_gather_kernel",
    "_choose_kernel",
    "_unpack",
    "_tile",
    "_add_up",
}


def test_kernels_compile_for_an_a10g(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "tests.kernels.gpu.compile_all", "86"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[3], timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["kernel"] for each in compiled} == KERNELS
    assert max(each["shared"] for each in compiled) <= SHARED
