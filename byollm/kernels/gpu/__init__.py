"""Triton kernels, each a module of its own beside the torch function in `byollm.kernels` that defines it.

Importing a kernel's module imports triton; this package alone does not. With TRITON_INTERPRET=1, set before,
they run on the CPU.
"""
