"""What all tests share: one torch thread, so that sums have one order, and nothing leaves the machine."""

import os
from pathlib import Path

import botocore.loaders
import botocore.session
from hypothesis import HealthCheck, settings

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

# Two things that clients read again and again, which takes longer than most tests: the certificates of all
# authorities, for each of httpx's clients, though nobody is spoken to over TLS; and the services of AWS,
# megabytes of JSON, for each of boto3's sessions.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull
LOADER = botocore.loaders.create_loader()
botocore.session.create_loader = lambda data_path=None: LOADER

# The suite tries the same examples each time, in its own time; `--hypothesis-profile default` finds others.
settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")
