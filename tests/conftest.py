"""What all tests share: one torch thread, so that sums have one order, and nothing leaves the machine."""

import os

# Before anything imports torch or a Hugging Face library; child processes inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Nobody's account and nobody's settings: a test that needs either names it.
for name in [name for name in os.environ if name.startswith(("AWS_", "BYOLLM__"))]:
    del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
