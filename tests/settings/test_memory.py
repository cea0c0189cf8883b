"""The arithmetic of fitting, and that everybody counts with it."""

import pytest
from pydantic import ValidationError

from byollm.settings import EndpointSpec
from byollm.settings.instances import GPU_MEMORY_GIB, INSTANCE_TYPES
from byollm.settings.memory import Footprint, cache_bytes_per_token

STABLELM_3B = cache_bytes_per_token(layers=32, kv_heads=32, head_dim=80)


def test_a_token_of_stablelm_3b_takes_320_kib() -> None:
    assert STABLELM_3B == 320 * 1024


def test_what_fits_is_what_the_sum_says() -> None:
    model = Footprint(weights_gib=1.5, token_bytes=STABLELM_3B)
    for memory in (15, 22, 79):
        requests = model.requests(memory, 4096)
        assert model.needs_gib(4096, requests) <= memory < model.needs_gib(4096, requests + 1)
        context = model.context(memory, 8)
        assert model.needs_gib(context, 8) <= memory < model.needs_gib(context + 1, 8)
    assert (
        model.arithmetic(4096, 8) == "weights 1.50 + runtime 2 + cache 8 x 4,096 tokens x 320 KiB = 13.50 GiB"
    )


def test_where_the_weights_do_not_fit_nothing_does() -> None:
    model = Footprint(weights_gib=14, token_bytes=STABLELM_3B)
    assert (model.requests(15, 1), model.context(15, 1)) == (0, 0)


def test_the_endpoint_takes_just_the_weights_that_fit() -> None:
    edge = 22 - Footprint(weights_gib=0).needs_gib()
    EndpointSpec(weights_gib=edge)
    with pytest.raises(ValidationError, match="22 GiB"):
        EndpointSpec(weights_gib=edge + 0.1)


def test_every_gpu_is_in_an_instance_type() -> None:
    assert {each.gpu for each in INSTANCE_TYPES.values()} - {None} == GPU_MEMORY_GIB.keys()
