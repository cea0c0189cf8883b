"""The documents show the app that there is, and every permission has its reason."""

import pytest

from tests.stacks import drawings
from tests.stacks.permissions import WHY, actions, statements
from tests.stacks.support import ROOT


@pytest.mark.parametrize("name", drawings.DOCUMENTS)
def test_a_document_shows_the_app_there_is(name: str) -> None:
    written = (ROOT / "docs" / f"{name}.md").read_text()
    assert drawings.document(name) == written, "run `make snapshots`, and read what it changes"


def test_every_drawing_is_shown_somewhere() -> None:
    text = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in drawings.DOCUMENTS)
    assert {found[2] for found in drawings.BLOCK.finditer(text)} == set(drawings.DRAWN)


def test_every_permission_has_a_reason_and_no_reason_is_left_over() -> None:
    used = {
        action
        for template in drawings.TEMPLATES.values()
        for _, statement in statements(template)
        for action in actions(statement)
    }
    assert used == set(WHY)
