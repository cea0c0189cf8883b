import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.serve.contenders import Contender, Setup
from bench.serve.models import BUNDLED
from bench.serve.rounds import Plan, measure

ANSWERS = """
import json, sys, time
print("REPLY {}", flush=True)
for line in sys.stdin:
    asked, now = json.loads(line), time.perf_counter()
    times = [[now + 0.1] * asked["tokens"]] * len(asked["prompts"])
    print("REPLY", json.dumps({"start": now, "times": times}), flush=True)
    LATER
"""
BREAKS = "import sys; sys.exit('no libfoo.so')"
DIES = ANSWERS.replace("LATER", "sys.exit('out of memory')")


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Peers whose interpreters do what the test wants, whichever script they are given."""
    for name, program in {"good": ANSWERS.replace("LATER", ""), "broken": BREAKS, "dying": DIES}.items():
        python = tmp_path / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!{sys.executable}\n{program}")
        python.chmod(0o755)
    return Setup(BUNDLED, tmp_path, threads=1, patience=60)


def test_what_does_not_start_or_dies_is_said_and_the_others_are_measured(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    contenders = [
        Contender("unstartable", "with_vllm.py", "bf16", "broken"),
        Contender("unservable", "llama-server", "bf16", "broken"),
        Contender("mortal", "with_vllm.py", "bf16", "dying"),
        Contender("sound", "with_vllm.py", "bf16", "good"),
    ]
    results = measure(contenders, setup, Plan((2,), 2, 60.0, 1.0), Console(width=1000))
    assert [(each.name, at, len(runs.speeds)) for (each, at), runs in results.items()] == [("sound", 2, 2)]
    told = capsys.readouterr().out
    assert "unstartable is left out: it ended: no libfoo.so" in told
    assert "unservable is left out: the model could not be converted: no libfoo.so" in told
    assert "mortal fails at 2: it ended: out of memory" in told
