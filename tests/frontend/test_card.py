from frontend.card import card, facts


def test_unknown_facts_are_shown_and_none_can_bring_markup() -> None:
    written = facts({"model": "<b>", "validation_loss": 3.25, "performance": {"a": 1}, "empty": ""})
    assert "<dd>&lt;b&gt;</dd>" in written
    assert "<dt>Validation loss</dt><dd>3.25</dd>" in written
    assert "erformance" not in written
    assert "Empty" not in written


def test_sizes_are_written_for_people() -> None:
    written = facts({"parameters": 7_030_000, "max_context": 1024})
    assert "7.03 M" in written
    assert "1,024 tokens" in written


def test_server_that_tells_nothing_leaves_a_sentence() -> None:
    assert "tells nothing" in facts({})
    assert card({}) == ""


def test_card_loses_front_matter_and_pictures() -> None:
    assert card({"card": "---\nlicense: x\n---\n# M\n\n![curve](curve.png)\n\ntext\n"}) == "# M\n\n\n\ntext"
