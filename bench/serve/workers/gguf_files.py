"""The files that llama.cpp reads; run as a program, it prints the path of one."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import llama_cpp  # type: ignore[import-not-found]  # in an environment of its own

CONVERTER = Path(__file__).parents[2] / "compat" / "peers" / "convert_gguf.py"
FILE_TYPES = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}


def gguf(request: dict[str, Any]) -> Path:
    """Convert the model once for each kind of weights; return the file."""
    directory = Path(request["cache"])
    directory.mkdir(parents=True, exist_ok=True)
    wide, narrow = (directory / f"{name}.gguf" for name in ("bf16", request["weights"]))
    unfinished = directory / "unfinished.gguf"
    if not wide.exists():
        command = [sys.executable, CONVERTER, request["source"], request["model"], "--outtype", "bf16"]
        subprocess.run([*command, "--outfile", unfinished], check=True)
        unfinished.rename(wide)
    if not narrow.exists():
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = FILE_TYPES[request["weights"]]
        if llama_cpp.llama_model_quantize(str(wide).encode(), str(unfinished).encode(), ctypes.byref(params)):
            sys.exit(f"{wide} could not be quantised to {request['weights']}")
        unfinished.rename(narrow)
    return narrow


if __name__ == "__main__":
    print(gguf(json.loads(sys.argv[1])))
