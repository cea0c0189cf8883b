"""State machines that start SageMaker's jobs, and wait for them: an integration that ministack lacks."""

import json
import time
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from ministack.core.responses import get_region
from ministack.services import stepfunctions

from byollm.local.cloudformation.fit import fit
from byollm.local.protocol import snake_case
from byollm.local.world import World

_KINDS = ("TrainingJob", "ProcessingJob", "TransformJob")
_EVERY = 15.0  # seconds of the world's clock between two looks at a job


def install_jobs(world: World) -> None:
    """Teach state machines `sagemaker:create…Job`, with and without `.sync`.

    https://docs.aws.amazon.com/step-functions/latest/dg/connect-sagemaker.html
    """
    for kind in _KINDS:
        stepfunctions._SERVICE_DISPATCH[f"arn:aws:states:::sagemaker:create{kind}"] = _starter(world, kind)


def _starter(world: World, kind: str) -> Any:
    def start(resource: str, given: dict[str, Any]) -> dict[str, Any]:
        client = replace(world, region=get_region()).client("sagemaker")
        shape = client.meta.service_model.operation_model(f"Create{kind}").input_shape
        try:
            made = getattr(client, snake_case(f"Create{kind}"))(**fit(shape, given))
            if not resource.endswith(".sync"):
                return _plain(made)
            describe = getattr(client, snake_case(f"Describe{kind}"))
            while True:
                job = _plain(describe(**{f"{kind}Name": given[f"{kind}Name"]}))
                match job[f"{kind}Status"]:
                    case "Completed":
                        return job
                    case "Failed" | "Stopped":
                        raise stepfunctions._ExecutionError("States.TaskFailed", json.dumps(job))
                time.sleep(min(1.0, _EVERY / world.clock.factor))
        except (BotoCoreError, ClientError, ValueError) as error:
            raise stepfunctions._ExecutionError("SageMaker.AmazonSageMakerException", str(error)) from None

    return start


def _plain(answer: dict[str, Any]) -> dict[str, Any]:
    """Write an answer as a state's output, in JSON's types."""
    answer.pop("ResponseMetadata", None)
    plain: dict[str, Any] = json.loads(json.dumps(answer, default=str))
    return plain
