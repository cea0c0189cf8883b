"""`byollm doctor`: what may keep a deployment from working."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from byollm.doctor import Finding, Patient

Found = dict[str, "list[Finding]"]

SETTINGS_PAGE = "docs/configuration.md"


def doctor(
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    model: Annotated[
        Path | None, typer.Option(help="Model directory that is to be served; by default the bundled one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at all that may keep a deployment from working: account, quotas, names, model, versions, prices.

    Exits with status 1 if anything would fail. Changes nothing.
    """
    from rich.console import Console

    from byollm.doctor import Patient, checks_for, examine
    from byollm.doctor.finding import failed
    from byollm.settings import SettingsError, load_settings

    console = Console(highlight=False)
    try:
        patient = Patient.of(env, load_settings(env), model or bundled_model(), attempts=2)
    except SettingsError as error:
        found: Found = {"settings": [failed(str(error), f"Correct config/{env}.yaml", SETTINGS_PAGE)]}
    else:
        with Console(stderr=True).status("Looking"):
            found = examine(patient, checks_for(patient))
    if as_json:
        typer.echo(_json(found))
    else:
        show(console, found)
    if failures(found):
        raise typer.Exit(1)


def require_health(patient: "Patient", console: "Console") -> None:
    """Examine an environment before it is deployed; show the findings.

    Raises:
        ByollmError: a check failed.
    """
    from byollm.doctor import checks_for, examine
    from byollm.settings import ByollmError

    found = examine(patient, checks_for(patient))
    show(console, found)
    if wrong := failures(found):
        raise ByollmError(f"nothing was deployed: put right {', '.join(wrong)} (see above), then try again")


def bundled_model() -> Path:
    """Return the directory of the model in the repository."""
    from byollm.settings import REPOSITORY

    return REPOSITORY / "models" / "byollm-tiny"


def failures(found: Found) -> list[str]:
    """Name the checks that failed."""
    return [name for name, findings in found.items() if any(each.level == "fail" for each in findings)]


def show(console: "Console", found: Found) -> None:
    """Print the findings as a table, and how many of each level there are."""
    from collections import Counter

    from rich.table import Table
    from rich.text import Text

    from byollm.doctor import Finding, Level

    styles = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
    table = Table("", "check", "what was seen, and what to do", box=None, padding=(0, 1))
    table.columns[2].overflow = "fold"  # addresses stay whole
    checks: dict[Finding, list[str]] = {}  # one row for what keeps many checks from looking
    for name, findings in found.items():
        for each in findings:
            checks.setdefault(each, []).append(name)
    for each, names in checks.items():
        text = Text(each.seen)
        if each.remedy:
            text.append(f"\n→ {each.remedy}", style="bold")
        if each.page:
            text.append(f"\n  {each.page}", style="dim")
        table.add_row(Text(each.level, styles[each.level]), "\n".join(names), text)
    console.print(table)
    counts = Counter(each.level for findings in found.values() for each in findings)
    console.print("  ".join(f"{counts[level]} {level}" for level in styles if counts[level]))


def _json(found: Found) -> str:
    import json
    from dataclasses import asdict

    rows = [{"check": name, **asdict(each)} for name, findings in found.items() for each in findings]
    return json.dumps(rows, indent=2)
