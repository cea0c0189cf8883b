"""What all tests share: one torch thread, so that sums have one order, and nothing leaves the machine."""

import os
from pathlib import Path

# Before anything imports torch or a Hugging Face library; child processes inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Where there is no GPU, Triton's kernels are interpreted; read when triton is imported, which xgrammar does.
if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg")):
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Nobody's account and nobody's settings: a test that needs either names it.
for name in [name for name in os.environ if name.startswith(("AWS_", "BYOLLM__"))]:
    del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
