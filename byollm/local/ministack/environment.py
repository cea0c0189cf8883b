"""What ministack is told through its environment."""

import shutil
from collections.abc import MutableMapping

from byollm.local.world import ACCESS_KEY, SECRET_KEY, World

STATE = "ministack"  # folder of the world's directory


def prepare(environment: MutableMapping[str, str], world: World) -> None:
    """Set what ministack reads when it is imported, and what its functions are started with."""
    state = world.directory / STATE
    unpacked = state / "unpacked"  # the code of functions while they run, which a kill leaves behind
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    environment.update(
        {
            "GATEWAY_PORT": str(world.port),  # it writes addresses of its own: they lead to the front door
            "MINISTACK_HOST": "localhost",
            "MINISTACK_ACCOUNT_ID": world.account,
            "MINISTACK_REGION": world.region,
            "AWS_DEFAULT_REGION": world.region,
            "AWS_ENDPOINT_URL": world.address,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "LAMBDA_EXECUTOR": "local",
            "PERSIST_STATE": "1",
            # For what it writes by itself, such as the code of functions; see `snapshots` for all else.
            "STATE_DIR": str(state / "kept"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(state / "objects"),
            "TMPDIR": str(unpacked),
            "SFN_WAIT_SCALE": str(1 / world.clock.factor),
            "DOCKER_HOST": "unix:///nonexistent",  # nothing of this machine's containers is its business
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
        }
    )
