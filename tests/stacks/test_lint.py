"""cfn-lint finds nothing in any template, but what .cfnlintrc accepts with its reason."""

import subprocess
import sys
from pathlib import Path

from tests.stacks.support import ROOT, Synthesis

LINT = Path(sys.executable).with_name("cfn-lint")


def test_no_template_has_a_finding(environments: dict[str, Synthesis]) -> None:
    templates = [
        path for synthesis in environments.values() for path in synthesis.directory.glob("*.template.json")
    ]
    lint = subprocess.run([LINT, *templates], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout) == (0, "")


def test_a_wrong_template_has_one(tmp_path: Path) -> None:
    template = tmp_path / "wrong.json"
    template.write_text('{"Resources": {"Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyStore": 1}}}}')
    lint = subprocess.run([LINT, template], cwd=ROOT, capture_output=True, text=True, check=False)
    assert lint.returncode != 0
    assert "KeyStore" in lint.stdout
