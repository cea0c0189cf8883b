"""The documents show the app that there is, and every permission has its reason."""

import pytest

from tests.stacks import drawings
from tests.stacks.permissions import Reason, called, granted, reasons
from tests.stacks.support import ROOT
from tests.stacks.templates import Platform


@pytest.mark.parametrize("name", drawings.DOCUMENTS)
def test_a_document_shows_the_app_there_is(name: str) -> None:
    written = (ROOT / "docs" / f"{name}.md").read_text()
    assert drawings.document(name) == written, "run `make snapshots`, and read what it changes"


def test_every_drawing_is_shown_somewhere_and_can_be_taken_in() -> None:
    text = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in drawings.DOCUMENTS)
    assert {found[2] for found in drawings.BLOCK.finditer(text)} == {*drawings.DRAWN, "permissions"}
    assert max(drawings.part(name).count('["') for name in drawings.DRAWN) <= 25


def test_every_permission_has_one_reason_and_no_reason_is_left_over() -> None:
    left = reasons()
    used = set[Reason]()
    for holder, statement in granted(Platform()):
        found = [reason for reason in left if reason.is_for(called(holder), statement)]
        assert len(found) == 1, f"permissions.yaml: {called(holder)}, {statement['Action']}: {found}"
        used.update(found)
    assert [reason for reason in left if reason not in used] == []


@pytest.mark.parametrize(
    ("actions", "is_for"),
    [
        (["s3:GetObject", "ec2:DescribeVpcs", "ec2:DescribeSubnets"], True),
        ("s3:GetObject", False),  # nothing for the other pattern
        (["s3:GetObject", "ec2:DescribeVpcs", "ec2:CreateVpc"], False),
    ],
)
def test_a_reason_is_for_the_actions_it_names_and_no_others(actions: str | list[str], is_for: bool) -> None:
    reason = Reason("", ("a/*Role",), ("s3:GetObject", "ec2:Describe*"), "")
    assert reason.is_for("a/ThatRole", {"Action": actions}) is is_for
    assert not reason.is_for("b/ThatRole", {"Action": actions})
