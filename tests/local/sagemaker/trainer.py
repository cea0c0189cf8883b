"""A training container for tests: counts steps, keeps them as checkpoints, ends as it is told to."""

import json
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["BYOLLM_OPT_ML"])


def save(step: int) -> None:
    scratch = ROOT / "checkpoints" / "step.tmp"
    scratch.write_text(str(step))
    scratch.replace(ROOT / "checkpoints" / "step")


def finish(step: int) -> None:
    (ROOT / "model" / "weights").write_text(f"step {step}")


def main() -> None:
    assert sys.argv[1:] == ["train"], sys.argv
    config = {path.stem: json.loads(path.read_text()) for path in (ROOT / "input/config").iterdir()}
    given = config["hyperparameters"]
    host = config["resourceconfig"]["current_host"]
    inputs = {
        str(path.relative_to(ROOT / "input/data")): path.read_text()
        for path in sorted((ROOT / "input/data").rglob("*"))
        if path.is_file()
    }
    seen = {"config": config, "inputs": inputs, "environment": dict(os.environ)}
    (ROOT / "output/data" / f"seen-{host}.json").write_text(json.dumps(seen))
    kept = ROOT / "checkpoints" / "step"
    step = int(kept.read_text()) if kept.exists() else 0
    pause = float(given.get("pause_when_resumed" if step else "pause", given.get("pause", "0")))
    print(f"begin at {step}", flush=True)  # noqa: T201 - what is read from its log

    def end(number: int, _: object) -> None:
        if given.get("stubborn") != "yes":
            finish(step)
            sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    while step < int(given.get("steps", "3")):
        step += 1
        save(step)
        print(f"step {step} loss: {1 / step:.4f}", flush=True)  # noqa: T201 - what is read from its log
        time.sleep(pause)
    if "failure" in given:
        (ROOT / "output" / "failure").write_text(given["failure"])
    finish(step)
    sys.exit(int(given.get("exit", "0")))


main()
