"""A change of a template is seen in review, resource by resource."""

from difflib import unified_diff
from json import dumps

from tests.stacks.snapshots import masked, read
from tests.stacks.support import Synthesis


def test_templates_are_those_that_were_committed(any_synthesis: Synthesis) -> None:
    synthesis = any_synthesis
    committed = read(synthesis.env)
    assert synthesis.templates.keys() == committed.keys(), "run: make snapshots"
    for role, template in synthesis.templates.items():
        before, now = (
            dumps(each, indent=1, sort_keys=True).split("\n") for each in (committed[role], masked(template))
        )
        changed = "\n".join(unified_diff(before, now, f"{role}, committed", f"{role}, now", lineterm="", n=8))
        assert not changed, f"run: make snapshots, and read what has changed\n{changed}"
