"""The decoder's whole forward pass in C++, for AVX2, AVX-512 and AMX. Optional: torch does it elsewhere."""

from byollm.kernels.cpu.library import Batch, Choice, KernelError, Precision, Shape, load_library

__all__ = ["Batch", "Choice", "KernelError", "Precision", "Shape", "load_library"]
