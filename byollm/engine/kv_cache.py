"""The tensors behind the blocks: keys and values of every layer."""

import os
from pathlib import Path

import torch

from byollm.engine.errors import EngineError
from byollm.modeling import DecoderConfig
from byollm.settings.engine import EngineSettings

BLOCK_SIZE = 16
SHARE_OF_FREE_MEMORY = {
    "cpu": 0.25,
    "cuda": 0.8,
}  # what a cache takes of the memory free at load, unless told


class KVCache:
    """Paged keys and values, one pair of tensors a layer.

    Heads come before the tokens of a block, so that gathering (block, head) rows makes each head's keys
    contiguous.

    Args:
        config: the decoder's shape.
        num_blocks: blocks of `BLOCK_SIZE` tokens.
        dtype: of the entries.
        device: where they live.
    """

    def __init__(
        self, config: DecoderConfig, num_blocks: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.num_blocks = num_blocks
        self.kv_heads = config.kv_heads
        shape = (num_blocks, config.kv_heads, BLOCK_SIZE, config.head_dim)
        # Zeros, not empty: masked slots are multiplied by zero, which only finite numbers survive.
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]

    def clear(self, blocks: list[int]) -> None:
        """Zero some blocks, so that non-finite numbers in them reach nobody."""
        for tensor in (*self.keys, *self.values):
            tensor[blocks] = 0


def bytes_per_block(config: DecoderConfig, dtype: torch.dtype) -> int:
    """Return the memory one block takes over all layers."""
    return 2 * config.layers * config.kv_heads * config.head_dim * BLOCK_SIZE * dtype.itemsize


def choose_num_blocks(
    config: DecoderConfig, settings: EngineSettings, context: int, dtype: torch.dtype, device: torch.device
) -> int:
    """Return the size of the cache in blocks, from the settings or else from need and free memory.

    Raises:
        EngineError: not one block fits.
    """
    if settings.cache_blocks is not None:
        return settings.cache_blocks
    block = bytes_per_block(config, dtype)
    if settings.cache_bytes is not None:
        blocks = settings.cache_bytes // block
    else:
        needed = settings.max_running * -(-context // BLOCK_SIZE)
        blocks = min(needed, int(free_memory(device) * SHARE_OF_FREE_MEMORY[device.type]) // block)
    if blocks < 1:
        raise EngineError(
            f"no block of the KV cache fits: one takes {block} bytes, and there is room for "
            f"{settings.cache_bytes or int(free_memory(device))}; set engine.cache_bytes or free memory"
        )
    return blocks


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device, within a container's limit too."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, usage = group / "memory.max", group / "memory.current"
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, max(0, int(text) - int(usage.read_text())))
    return free
