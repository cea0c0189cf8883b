"""The memory that packing takes is that of one matrix, not that of the model."""

import subprocess
import sys
from pathlib import Path

from tests.modeling.packing.support import write_model

# VmHWM is the most memory that was resident since it was last reset, which writing 5 to clear_refs does.
SCRIPT = """
import sys
from pathlib import Path
from byollm.kernels.packed import Scheme
from tests.modeling.packing.support import pack

def peak(model):
    Path("/proc/self/clear_refs").write_text("5")
    pack(Path(model), Path(model + "-packed"), Scheme("int4", 128), shard_bytes=2**23)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

few, many = sys.argv[1:]
peak(few)  # what is imported and allocated once
for directory in Path(few).parent.glob("*-packed"):
    import shutil
    shutil.rmtree(directory)
print(peak(few), peak(many))
"""


def test_the_peak_does_not_grow_with_the_number_of_layers(tmp_path: Path) -> None:
    shape = {"hidden_size": 512, "intermediate_size": 1024, "heads": 8, "kv_heads": 8, "head_dim": 64}
    few = write_model(tmp_path / "few", layers=2, shard_bytes=2**26, **shape)
    many = write_model(tmp_path / "many", layers=10, shard_bytes=2**26, **shape)
    larger = sum(path.stat().st_size for path in many.iterdir()) - sum(
        path.stat().st_size for path in few.iterdir()
    )
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, few, many], check=True, capture_output=True, text=True
    )
    before, after = (int(mib) * 2**20 for mib in ran.stdout.split())
    assert larger > 40 * 2**20
    assert after - before < larger / 5
