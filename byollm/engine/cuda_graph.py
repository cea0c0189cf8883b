"""Work on fixed tensors made repeatable: captured once as a CUDA graph, then launched as one."""

from collections.abc import Callable

import torch
from torch import Tensor

Work = Callable[[], Tensor]
Capture = Callable[[Work], Work]
"""Takes work that reads and writes fixed tensors; returns what does it again, into the same result."""


class CudaGraphs:
    """Captures work on a GPU. All graphs share their memory, so a result holds until the next one runs."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Capture work; it is done once before, so that kernels are compiled and workspaces made."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = work()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def repeat(work: Work) -> Work:
    """Do the work anew each time; for devices that have no graphs."""
    return work
