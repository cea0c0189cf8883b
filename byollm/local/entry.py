"""The entry point of the inference image where it is a process: what its Dockerfile sets, set here."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Become `byollm`, with the model where SageMaker has put it."""
    model = Path(os.environ["BYOLLM_OPT_ML"]) / "model"
    os.environ.setdefault("BYOLLM__SERVER__MODEL", str(model))
    os.execv(sys.executable, [sys.executable, "-m", "byollm", *sys.argv[1:]])  # noqa: S606 - as exec-form does


if __name__ == "__main__":
    main()
