import mmap
from pathlib import Path

import pytest
import torch

from byollm.engine.device import choose_device, choose_dtype
from byollm.engine.errors import EngineError
from byollm.engine.kv_cache import (
    BLOCK_SIZE,
    KVCache,
    bytes_per_block,
    choose_num_blocks,
    free_memory,
    zeros,
)
from byollm.modeling import DecoderConfig
from byollm.settings.engine import EngineSettings

CONFIG = DecoderConfig(
    vocab_size=64,
    hidden_size=32,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=8,
    intermediate_size=32,
    max_positions=128,
)
CPU = torch.device("cpu")


def blocks(context: int = 128, **settings: object) -> int:
    return choose_num_blocks(CONFIG, EngineSettings(**settings), context, torch.float32, CPU)  # type: ignore[arg-type]


def test_block_is_as_large_as_its_tensors() -> None:
    cache = KVCache(CONFIG, 5, torch.float32)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held == 5 * bytes_per_block(CONFIG, torch.float32) == 5 * 2 * 3 * 2 * 8 * BLOCK_SIZE * 4


def test_size_follows_blocks_or_bytes() -> None:
    assert blocks(cache_blocks=7) == 7
    assert blocks(cache_bytes=10 * bytes_per_block(CONFIG, torch.float32) + 1) == 10


def test_default_is_what_full_sequences_need() -> None:
    assert blocks(max_running=3) == 3 * 8
    assert blocks(max_running=3, context=129) == 3 * 9


def test_default_stays_within_a_share_of_free_memory() -> None:
    huge = choose_num_blocks(
        CONFIG, EngineSettings(max_running=4096, max_batch_tokens=4096), 10**9, torch.float32, CPU
    )
    assert 0 < huge * bytes_per_block(CONFIG, torch.float32) < free_memory(CPU) / 2


def test_cache_without_room_for_a_block_is_refused() -> None:
    with pytest.raises(EngineError, match=r"one takes 6144 bytes, and there is room for 100; .*cache_bytes"):
        blocks(cache_bytes=100)


def test_clear_zeroes_the_given_blocks_only() -> None:
    cache = KVCache(CONFIG, 3, torch.float32)
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    for tensor in tensors:
        tensor.fill_(float("nan"))
    cache.clear([0, 2])
    for tensor in tensors:
        assert tensor[[0, 2]].eq(0).all()
        assert tensor[1].isnan().all()


def test_dtype_is_bfloat16_only_where_it_is_native() -> None:
    native = torch.cpu.get_capabilities()
    fast = native.get("amx_bf16") or native.get("avx512_bf16")
    assert choose_dtype(EngineSettings(), CPU) == (torch.bfloat16 if fast else torch.float32)
    assert choose_dtype(EngineSettings(), torch.device("cuda")) == torch.bfloat16
    assert choose_dtype(EngineSettings(dtype="bfloat16"), CPU) == torch.bfloat16
    assert choose_dtype(EngineSettings(dtype="float32"), torch.device("cuda")) == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_absent_gpu_is_named() -> None:
    assert choose_device(EngineSettings()) == CPU
    with pytest.raises(EngineError, match="torch finds no CUDA device"):
        choose_device(EngineSettings(device="cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_pytorch_for_gpus_without_one_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    choose_device(EngineSettings(device="cpu"))
    assert not caplog.messages
    assert choose_device(EngineSettings()) == CPU
    assert caplog.messages == ["computing on the processor: PyTorch is built for CUDA 13.0, but finds no GPU"]
    monkeypatch.setattr(torch.version, "cuda", None)
    choose_device(EngineSettings())
    assert len(caplog.messages) == 1


def test_a_cache_takes_memory_as_it_is_written() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    before = resident()
    found = zeros((2**20, 64), torch.float32)  # 256 MiB
    assert not found[12345].any()
    found[:1024] = 1
    assert (resident() - before) < 2**25
    assert found[:2048].sum() == 1024 * 64
