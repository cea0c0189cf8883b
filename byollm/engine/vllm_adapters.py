"""LoRA adapters of vLLM's engine, which has slots, caches and checks of its own."""

import logging
from itertools import count
from pathlib import Path
from typing import Any

from byollm.engine.errors import UnknownAdapterError
from byollm.modeling import AdapterError

logger = logging.getLogger(__name__)


class VllmAdapters:
    """The adapters that requests can ask for, by name.

    Args:
        engine: vLLM's `LLMEngine`.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._by_name: dict[str, Any] = {}
        self._versions = count(1)

    def find(self, name: str | None) -> Any:
        """Return vLLM's `LoRARequest` of an adapter; None for None.

        Raises:
            UnknownAdapterError: there is none of this name.
        """
        if name is not None and name not in self._by_name:
            raise UnknownAdapterError(f"there is no adapter {name!r}", "model")
        return None if name is None else self._by_name[name]

    def read(self, name: str, directory: Path, pinned: bool) -> tuple[str, Path, bool]:
        """Nothing is read ahead: vLLM reads by itself."""
        return name, directory, pinned

    def add(self, name: str, directory: Path, pinned: bool) -> None:
        """Load an adapter, or a new version of it. Its cache blocks are found by name, version and directory.

        Raises:
            AdapterError: vLLM does not take it.
        """
        from vllm.lora.request import LoRARequest

        version = next(self._versions)
        request = LoRARequest(f"{name}@{version}", version, str(directory))
        try:
            self._engine.add_lora(request)
            if pinned:
                self._engine.pin_lora(version)
        except Exception as error:  # its complaints are of many kinds
            logger.exception("vLLM does not load an adapter")
            raise AdapterError(
                f"vLLM does not take it ({type(error).__name__}); its log says why. It has to be a LoRA "
                "adapter of this model, of a rank up to engine.vllm.max_lora_rank, and "
                "engine.vllm.enable_lora has to be true"
            ) from None
        self._by_name[name] = request

    def remove(self, name: str) -> None:
        """Let an adapter no longer be asked for; vLLM drops it when it needs the room.

        Raises:
            UnknownAdapterError: there is none of this name.
        """
        self.find(name)
        del self._by_name[name]
