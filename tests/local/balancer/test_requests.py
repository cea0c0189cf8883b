"""Requests to a load balancer go where its rules say, as they are, and come back as they come."""

import socket
from collections import Counter
from itertools import pairwise
from time import monotonic
from urllib.parse import urlsplit

import httpx

from tests.local import patient
from tests.local.balancer.conftest import Balancer, make_balancer
from tests.local.running import Platform, eventually


def test_targets_take_turns(balancer: Balancer) -> None:
    answers = Counter(patient.get(balancer.address).text for _ in range(10))
    assert answers == {"a": 5, "b": 5}


def test_a_target_learns_who_asked(balancer: Balancer) -> None:
    got = patient.get(f"{balancer.address}/echo", headers={"X-Forwarded-For": "10.0.0.1"}).json()
    got = {name.lower(): value for name, value in got.items()}
    assert got["x-forwarded-for"] == "10.0.0.1, 127.0.0.1"
    assert (got["x-forwarded-proto"], got["x-forwarded-port"]) == ("http", "80")
    assert got["x-amzn-trace-id"].startswith("Root=1-")
    assert got["host"] == urlsplit(balancer.address).netloc


def test_invalid_header_names_are_dropped_where_asked_for(balancer: Balancer) -> None:
    sent = {"bad_name": "1", "Good-Name": "2"}
    assert "bad_name" in patient.get(f"{balancer.address}/echo", headers=sent).json()
    balancer.set(routing__http__drop_invalid_header_fields__enabled="true")
    got = patient.get(f"{balancer.address}/echo", headers=sent).json()
    assert "bad_name" not in got
    assert got["good-name"] == "2"


def test_a_large_body_passes(balancer: Balancer) -> None:
    body = bytes(30 * 2**20)
    assert patient.post(balancer.address, content=body).text == str(len(body))


def test_a_stream_arrives_as_it_is_written_and_ends_with_its_client(balancer: Balancer) -> None:
    def closed() -> int:
        return sum(int(patient.get(f"{balancer.address}/closed").text) for _ in range(2))

    before = closed()
    arrivals = []
    with httpx.stream("GET", f"{balancer.address}/stream", timeout=60) as response:
        for chunk in response.iter_raw():
            assert chunk.count(b"data:") < 1000, "the stream was held back"
            arrivals.append(monotonic())
            if len(arrivals) == 5:
                break
    assert all(later > earlier for earlier, later in pairwise(arrivals))
    eventually(lambda: closed() == before + 1)


def test_a_target_that_breaks_off_is_a_502(balancer: Balancer) -> None:
    response = patient.get(f"{balancer.address}/rude")
    assert response.status_code == 502
    assert response.headers["server"] == "awselb/2.0"


def test_a_target_silent_beyond_the_idle_timeout_is_a_504(platform: Platform, sites: tuple[int, int]) -> None:
    balancer = make_balancer(platform, "idle")
    balancer.register(sites[0])
    eventually(lambda: set(balancer.states().values()) == {"healthy"})
    assert patient.get(f"{balancer.address}/slow/0.1").text == "a"
    balancer.set(idle_timeout__timeout_seconds="1")
    assert patient.get(f"{balancer.address}/slow/600").status_code == 504


def test_no_target_is_a_503(platform: Platform) -> None:
    balancer = make_balancer(platform, "empty")
    assert patient.get(balancer.address).status_code == 503


def test_a_client_stays_with_its_target_by_the_cookie(balancer: Balancer) -> None:
    balancer.set_group(stickiness__enabled="true")
    try:
        with httpx.Client(timeout=60) as client:
            assert len({client.get(balancer.address).text for _ in range(6)}) == 1
            cookie = client.cookies["AWSALB"]
        assert "127.0.0.1" not in cookie
        assert patient.get(balancer.address, headers={"Cookie": "AWSALB=nobody"}).status_code == 200
    finally:
        balancer.set_group(stickiness__enabled="false")
    assert "set-cookie" not in patient.get(balancer.address).headers


def test_a_client_that_stalls_does_not_hold_others(balancer: Balancer) -> None:
    where = urlsplit(balancer.address)
    with socket.create_connection((where.hostname, where.port)) as stalled:
        stalled.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab")
        assert patient.get(balancer.address).status_code == 200
