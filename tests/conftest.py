"""What all tests share: one torch thread, so that sums have one order, and nothing leaves the machine."""

import os

# Before anything imports torch or a Hugging Face library; child processes inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
