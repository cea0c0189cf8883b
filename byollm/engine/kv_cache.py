"""The tensors behind the blocks: keys and values of every layer."""

import math
import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

from byollm.engine.errors import EngineError
from byollm.modeling import DecoderConfig
from byollm.settings.engine import EngineSettings

BLOCK_SIZE = 16
SHARE_OF_FREE_MEMORY = {
    "cpu": 0.25,
    "cuda": 0.8,
}  # what a cache takes of the memory free at load, unless told


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Return zeros that on a CPU take memory only as they are written."""
    size = math.prod(shape) * dtype.itemsize
    if torch.device(device).type != "cpu" or size == 0:  # nothing cannot be mapped
        return torch.zeros(shape, dtype=dtype, device=device)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


class LayerCache:
    """Keys and values of one layer, in blocks: (blocks, kv_heads, BLOCK_SIZE, head_dim).

    Heads come before the tokens of a block, so that gathering pages, the (block, head) pairs, makes the keys
    of each head contiguous. A row is one token of one page.
    """

    def __init__(
        self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device | str
    ) -> None:
        # Zeros, not empty: masked slots are multiplied by zero, which only finite numbers survive.
        self.keys, self.values = zeros(shape, dtype, device), zeros(shape, dtype, device)
        self._rows = [x.view(-1, shape[3]) for x in (self.keys, self.values)]
        self._pages = [x.view(-1, shape[2] * shape[3]) for x in (self.keys, self.values)]

    def write(self, rows: Tensor, keys: Tensor, values: Tensor) -> None:
        """Set rows (tokens * kv_heads,) to keys and values (tokens, kv_heads, head_dim)."""
        for own, given in zip(self._rows, (keys, values), strict=True):
            own.index_copy_(0, rows, given.reshape(-1, given.shape[-1]))

    def read(self, pages: Tensor, sequences: int) -> tuple[Tensor, Tensor]:
        """Gather pages (sequences * kv_heads * blocks,) as (sequences, kv_heads, tokens, head_dim) each."""
        _, heads, _, size = self.keys.shape
        keys, values = (own.index_select(0, pages).view(sequences, heads, -1, size) for own in self._pages)
        return keys, values


class KVCache:
    """Paged keys and values of all layers.

    Args:
        config: the decoder's shape.
        num_blocks: blocks of `BLOCK_SIZE` tokens.
        dtype: of the entries.
        device: where they live.
    """

    def __init__(
        self, config: DecoderConfig, num_blocks: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.kv_heads, self.dtype, self.device = config.kv_heads, dtype, torch.device(device)
        shape = (num_blocks, config.kv_heads, BLOCK_SIZE, config.head_dim)
        self.layers = [LayerCache(shape, dtype, device) for _ in range(config.layers)]
        self._heads = torch.arange(config.kv_heads, device=device)

    def pages(self, table: Tensor) -> Tensor:
        """Turn block ids (sequences, blocks) into the pages to read: (sequences * kv_heads * blocks,)."""
        return (table[:, None, :] * self.kv_heads + self._heads[:, None]).flatten()

    def rows(self, blocks: list[int], offsets: list[int]) -> Tensor:
        """Turn each token's block and its offset in it into the rows to write: (tokens * kv_heads,)."""
        first, offset = torch.tensor([blocks, offsets], device=self.device)[:, :, None]
        rows: Tensor = (first * self.kv_heads + self._heads) * BLOCK_SIZE + offset  # (tokens, kv_heads)
        return rows.flatten()

    def clear(self, blocks: list[int], start: int = 0) -> None:
        """Zero some blocks, the first from token `start` on, so that non-finite numbers reach nobody."""
        for layer in self.layers:
            for own in (layer.keys, layer.values):
                own[blocks[:1], :, start:] = 0
                own[blocks[1:]] = 0


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
