from byollm.engine.prefix import block_keys
from tests.engine.support import make_request


def keys(tokens: list[int], salt: str = "", count: int = 2) -> list[bytes]:
    request = make_request("a", tokens)
    request.salt = salt
    return block_keys(request, count, 4)


def test_key_depends_on_the_tokens_and_on_all_before_them() -> None:
    plain = keys([1, 2, 3, 4, 5, 6, 7, 8])
    assert keys([1, 2, 3, 4, 5, 6, 7, 8, 9]) == plain
    other = keys([1, 2, 3, 4, 5, 6, 7, 9])
    assert other[0] == plain[0]
    assert other[1] != plain[1]
    earlier = keys([0, 2, 3, 4, 5, 6, 7, 8])
    assert not {*earlier} & {*plain}


def test_key_depends_on_the_salt() -> None:
    tokens = [1, 2, 3, 4, 5, 6, 7, 8]
    assert len({*keys(tokens), *keys(tokens, "adapter@1"), *keys(tokens, "adapter@2")}) == 6
    assert keys(tokens, "\ud800") != keys(tokens)  # any string will do


def test_keys_are_computed_once_and_as_far_as_needed() -> None:
    request = make_request("a", 9)
    first = block_keys(request, 1, 4)[0]
    assert len(request.keys) == 1
    assert block_keys(request, 2, 4)[0] is first
    assert len(block_keys(request, 1, 4)) == 2
