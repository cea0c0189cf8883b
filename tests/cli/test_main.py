"""What the command line does for all of its commands."""

import sys

import pytest

from byollm.cli.main import main


def test_a_package_that_is_not_installed_is_named_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for module in [name for name in sys.modules if name.startswith(("byollm.gateway", "byollm.web"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "argv", ["byollm", "gateway"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "needs uvicorn, which is not installed: pip install 'byollm[serve]'" in capsys.readouterr().err
