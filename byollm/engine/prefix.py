"""Keys of cache blocks: what a block holds, together with all that comes before it."""

from array import array
from hashlib import sha256

from byollm.engine.request import Request


def block_keys(request: Request, count: int, block_size: int) -> list[bytes]:
    """Return the keys of the first full blocks of a sequence, `count` of them or more.

    A key is the SHA-256 of the key before it and the block's tokens, and the chain begins with that of the
    request's `salt`, and of the version of its adapter. So equal keys mean equal salts, the same weights and
    equal tokens from the first on: two that collide by chance or malice are not known to exist. Keys are
    computed once and kept with the request.
    """
    keys = request.keys
    while len(keys) < count:
        parent = keys[-1] if keys else _root(request)
        tokens = request.tokens[len(keys) * block_size : (len(keys) + 1) * block_size]
        keys.append(sha256(parent + array("Q", tokens).tobytes()).digest())
    return keys


def _root(request: Request) -> bytes:
    root = sha256(request.salt.encode(errors="surrogatepass")).digest()
    return root if request.adapter is None else sha256(root + request.adapter.salt).digest()
