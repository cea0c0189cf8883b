"""Training jobs on the whole platform, which is killed while they run."""

import sys
from pathlib import Path

from byollm.local.images import know
from tests.local import patient
from tests.local.running import REGION, Mortal, eventually
from tests.local.sagemaker.test_training import BUCKET, IMAGE, LONG_ONCE, SPOT, in_s3, request, unpacked


def test_jobs_go_on_from_their_checkpoints_after_the_platform_was_killed(mortal: Mortal) -> None:
    platform = mortal.platform
    know(platform.directory, {IMAGE: [sys.executable, str(Path(__file__).with_name("trainer.py"))]})
    s3, sagemaker = platform.client("s3"), platform.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    def trained(name: str) -> int:
        return int(in_s3(s3, f"checkpoints/{name}/step") or 0)

    def passed(name: str) -> list[str]:
        described = sagemaker.describe_training_job(TrainingJobName=name)
        return [one["Status"] for one in described["SecondaryStatusTransitions"]]

    sagemaker.create_training_job(**request("spot", LONG_ONCE, **SPOT))
    sagemaker.create_training_job(**request("plain", LONG_ONCE))
    eventually(lambda: trained("spot") > 2 and trained("plain") > 2)
    interruption = f"{platform.address}/_byollm/sagemaker/training-jobs/plain/interrupt"
    assert "does not run on spot instances" in patient.post(interruption).json()["message"]
    mortal.kill()
    mortal.start()
    for name, lost in (("spot", "Interrupted"), ("plain", "Restarting")):
        eventually(lambda name=name: passed(name)[-1] == "Completed", 60)  # type: ignore[misc]
        assert passed(name)[3:5] == [lost, "Starting"]
        assert unpacked(s3, f"output/{name}/output/model.tar.gz") == {"weights": "step 1000"}
        logs = (platform.directory / "logs/aws/sagemaker/TrainingJobs").glob(f"{name}-algo-1-*.log")
        first, second = sorted(int(log.read_text().split()[3]) for log in logs)  # "<time> begin at …"
        assert first == 0
        assert second > 2
