import hypothesis.strategies as st
from hypothesis import given

from byollm.engine.text_stream import StopScanner, TextStream
from byollm.modeling import IncrementalDetokenizer, Tokenizer


def feed(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, str | None]:
    scanner, shown = StopScanner(stops), ""
    for piece in pieces:
        text, stop = scanner.push(piece)
        shown += text
        if stop is not None:
            return shown, stop
    return shown + scanner.flush(), None


def reference(stops: tuple[str, ...], text: str) -> tuple[str, str | None]:
    """Character by character: the first stop string that is complete, the longest if there are several."""
    for end in range(1, len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)], stop
    return text, None


def test_stop_string_is_left_out_and_ends_the_text() -> None:
    assert feed(("END",), ["one EN", "D two"]) == ("one ", "END")


def test_text_that_only_began_like_a_stop_string_is_shown() -> None:
    scanner = StopScanner(("END",))
    assert scanner.push("one E") == ("one ", None)
    assert scanner.push("N") == ("", None)
    assert scanner.push("ERGY") == ("ENERGY", None)
    assert scanner.push("E") == ("", None)
    assert scanner.flush() == "E"


def test_no_more_is_held_back_than_may_become_a_stop_string() -> None:
    scanner = StopScanner(("aab",))
    assert scanner.push("xaaa") == ("xa", None)
    assert scanner.push("b") == ("", "aab")


def test_shorter_stop_string_that_is_complete_first_wins() -> None:
    assert feed(("abcd", "bc"), ["abcd"]) == ("a", "bc")
    assert feed(("bc", "abc"), ["xabc"]) == ("x", "abc")


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert StopScanner(()).push("all") == ("all", None)


@given(
    st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=4).map(tuple),
    st.lists(st.text("ab\n", max_size=5), max_size=12),
)
def test_outcome_does_not_depend_on_how_the_text_is_cut(stops: tuple[str, ...], pieces: list[str]) -> None:
    assert feed(stops, pieces) == reference(stops, "".join(pieces))


@given(st.lists(st.text("ab", max_size=5), max_size=8))
def test_shown_text_never_has_to_be_taken_back(pieces: list[str]) -> None:
    stops, scanner, shown = ("aba", "bb"), StopScanner(("aba", "bb")), ""
    for piece in pieces:
        text, stop = scanner.push(piece)
        shown += text
        if stop is not None:
            break
    whole, _ = reference(stops, "".join(pieces))
    assert whole.startswith(shown)


def test_tokens_become_text_without_half_characters(tokenizer: Tokenizer) -> None:
    stream = TextStream(IncrementalDetokenizer(tokenizer, continues=True))
    texts = [stream.push(token)[0] for token in tokenizer.encode(" né 💡!")]
    assert "\ufffd" not in "".join(texts)
    assert "".join(texts) == " né 💡!"


def test_character_cut_short_at_the_end_is_not_lost(tokenizer: Tokenizer) -> None:
    stream = TextStream(IncrementalDetokenizer(tokenizer, continues=True), ("never",))
    first = tokenizer.encode("é")[0]
    assert stream.push(first) == ("", None)
    assert stream.flush() == "\ufffd"


def test_stop_string_across_token_borders(tokenizer: Tokenizer) -> None:
    stream = TextStream(IncrementalDetokenizer(tokenizer, continues=True), ("at on",))
    tokens = tokenizer.encode("the cat sat on the mat")
    shown, stopped = "", None
    for token in tokens:
        text, stopped = stream.push(token)
        shown += text
        if stopped:
            break
    assert (shown, stopped) == ("the cat s", "at on")


def test_without_tokenizer_there_is_no_text() -> None:
    stream = TextStream(None, ("x",))
    assert (stream.push(5), stream.flush()) == (("", None), "")
