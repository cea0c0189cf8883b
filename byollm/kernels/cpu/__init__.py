"""The decoder's whole forward pass in C++, for AVX2 and AVX-512. Optional: torch does it elsewhere."""

from byollm.kernels.cpu.library import Batch, Choice, KernelError, Precision, Shape, load_library

__all__ = ["Batch", "Choice", "KernelError", "Precision", "Shape", "load_library"]
