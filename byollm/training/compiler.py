"""Whether torch.compile works on this machine."""

import torch


def compiler_fault() -> str | None:
    """Compile a trifle; return why that failed, in a line, or None if it did not."""
    try:
        torch.compile(_trifle)(torch.ones(8))
    except Exception as error:  # torch documents no family of errors here
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        return f"{reason}. Install a C++ compiler (Debian: apt install g++), or set compile to false."
    return None


def _trifle(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1
