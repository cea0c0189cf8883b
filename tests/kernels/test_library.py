"""The library as it was built, against plain scalar code; `scripts/emulate_cpu` does so for other CPUs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from byollm.kernels import cpu
from byollm.kernels.cpu import load_library

SOURCE = Path(__file__).with_name("check_library.cpp")


def test_it_computes_what_plain_code_does(tmp_path: Path) -> None:
    library, compiler = load_library(), shutil.which("c++")
    if library is None or compiler is None:
        absent = pytest.fail if "CI" in os.environ else pytest.skip
        absent("no C++ compiler, AVX2 or AVX-512 here")
    program, headers = tmp_path / "check_library", Path(cpu.__file__).parent
    subprocess.run([compiler, "-std=c++20", "-O1", f"-I{headers}", "-o", program, SOURCE, "-ldl"], check=True)
    checked = subprocess.run([program, library._name], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
