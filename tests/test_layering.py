"""Floors import downward only, and importing byollm costs nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What each part may import of the others; the architecture's table, for what exists.
ALLOWED: dict[str, set[str]] = {
    "byollm.settings": set(),
    "byollm.kernels": {"byollm.settings"},
    "byollm.modeling": {"byollm.kernels", "byollm.settings"},
    "byollm.data": {"byollm.modeling", "byollm.settings"},
    "byollm.engine": {"byollm.kernels", "byollm.modeling", "byollm.settings"},
    "byollm.training": {"byollm.data", "byollm.kernels", "byollm.modeling", "byollm.settings"},
    "byollm.web": {"byollm.settings"},
    "byollm.server": {"byollm.engine", "byollm.modeling", "byollm.settings", "byollm.web"},
    "byollm.aws": {"byollm.settings"},
    "byollm.lifecycle": {"byollm.aws", "byollm.settings"},
    "byollm.costs": {"byollm.settings"},
    "byollm.gateway": {"byollm.aws", "byollm.settings", "byollm.web"},
    "byollm.doctor": {"byollm.aws", "byollm.costs", "byollm.lifecycle", "byollm.settings"},
    "byollm.local": {"byollm.aws", "byollm.lifecycle", "byollm.settings", "byollm.web"},
    "frontend": {"byollm.settings", "byollm.web"},
    "lambdas": {"byollm.aws", "byollm.lifecycle", "byollm.settings"},
    "stacks": {"byollm.settings"},
}
BESIDE = ("frontend", "lambdas", "stacks")  # packages of the house that stand beside byollm
TOP = {"byollm.cli", "byollm.__main__"}  # the command line may import everything


def part_of(module: str) -> str | None:
    """Name the part of the house that a module belongs to; None for what is not ours."""
    names = module.split(".")
    if names[0] in BESIDE:
        return names[0]
    inside = names[0] == "byollm" and len(names) > 1 and names[1] != "__version__"
    return ".".join(names[:2]) if inside else None


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_floors_import_downward_only() -> None:
    wrong = []
    for path in sorted(path for part in ("byollm", *BESIDE) for path in (ROOT / part).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        here = part_of(module)
        if here is None or here in TOP:
            continue
        assert here in ALLOWED, f"{module} stands on no floor: add it to the table"
        for imported in imports(path):
            there = part_of(imported)
            if there and there != here and there not in ALLOWED[here]:
                wrong.append(f"{module} imports {imported}")
    assert not wrong, "imports that run upward:\n" + "\n".join(wrong)


def test_importing_byollm_is_cheap() -> None:
    script = "import sys, byollm; print(*sorted(m for m in sys.modules if m.split('.')[0] in HEAVY))"
    heavy = "HEAVY = {'torch', 'transformers', 'gradio', 'fastapi', 'numpy', 'pydantic'}\n"
    loaded = subprocess.run(
        [sys.executable, "-c", heavy + script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def test_help_imports_nothing_heavy() -> None:
    # Nor what `make run` does not install, or the newcomer's first command would fail.
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from byollm.cli.main import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "heavy = {'torch', 'transformers', 'gradio', 'fastapi', 'numpy'}\n"
        "absent = {'aws_cdk', 'boto3', 'botocore', 'ministack', 'moto', 'aws_lambda_powertools'}\n"
        "print(*sorted((heavy | absent) & set(sys.modules)))\n"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
