import pytest

from bench.serve.contenders import Contender, Reply
from bench.serve.report import engine_shares, percentile, ratios
from bench.serve.rounds import Results, Runs

OURS = Contender("byollm bf16", "with_byollm.py", "bf16")
NARROW = Contender("byollm int4", "with_byollm.py", "int4", narrow=True)
SERVER = Contender("byollm serve", "byollm", "bf16")
PEER = Contender("peer bf16", "with_peer.py", "bf16", "peer")
BETTER = Contender("peer float32", "with_peer.py", "float32", "peer")
PEER_SERVER = Contender("peer serve", "peer", "bf16", "peer")


def results(**speeds: float) -> Results:
    names = {
        "ours": OURS,
        "narrow": NARROW,
        "server": SERVER,
        "peer": PEER,
        "better": BETTER,
        "peers": PEER_SERVER,
    }
    return {(names[name], 8): Runs(speeds=[speed / 2, speed, speed * 9]) for name, speed in speeds.items()}


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_occurred(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected
    assert percentile([7.0], share) == 7.0


def test_a_run_is_fast_by_its_last_token() -> None:
    runs = Runs()
    runs.add(Reply(start=10.0, times=[[10.5, 11.0], [10.25, 12.0]], tokens=4), foreign=0.01)
    assert runs.speed == 2.0
    assert runs.firsts == [0.5, 0.25]
    assert runs.gaps == [0.5, 1.75]


def test_we_are_held_against_the_best_peer_with_the_same_kind_of_weights() -> None:
    assert ratios(results(ours=300, narrow=500, peer=100, better=200)) == {"wide": {8: 1.5}}


def test_among_servers_our_bare_engine_does_not_count() -> None:
    found = results(ours=900, server=600, peers=400)
    assert ratios(found) == {"wide": {8: 1.5}}
    assert engine_shares(found) == {"byollm serve": {8: 0.667}}
