"""Triton kernels, each a module of its own beside the torch function in `byollm.kernels` that defines it.

Importing a kernel's module imports triton; this package alone does not. With TRITON_INTERPRET=1, set before,
they run on the CPU.

Triton compiles a kernel anew where a number is 1 or a multiple of 16 and was not before, and where a pointer
is aligned and was not. Counts that change from step to step, and tensors cut out of a batch's numbers, are
exempt from that (`do_not_specialize`): it would take seconds amid a request.
"""
