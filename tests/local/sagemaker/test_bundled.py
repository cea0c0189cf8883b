"""byollm's own server and the bundled model behind an endpoint, from S3 to the last token."""

import json
import sys

from byollm.local.images import know
from byollm.settings import REPOSITORY as CHECKOUT
from tests.local.sagemaker.hosting import ROLE, Hosting, Members, eventually

REPOSITORY = "byollm-dev/inference@sha256:2"
MODEL = CHECKOUT / "models" / "byollm-tiny"
QUESTION: Members = {
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "max_tokens": 8,
    "temperature": 0,
}


def test_the_bundled_model_is_served_updated_and_deleted(hosting: Hosting) -> None:
    know(hosting.world.directory, {REPOSITORY: [sys.executable, "-m", "byollm.local.entry"]})
    s3 = hosting.world.client("s3")
    s3.create_bucket(Bucket="bundle", CreateBucketConfiguration={"LocationConstraint": "ca-central-1"})
    for file in MODEL.iterdir():
        s3.upload_file(str(file), "bundle", f"byollm-tiny/{file.name}")
    endpoint = hosting.endpoint(variant(hosting))

    body = json.dumps(QUESTION)
    answer = hosting.runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=body)
    told = json.loads(answer["Body"].read())
    assert told["model"] == "model"
    text = told["choices"][0]["message"]["content"]
    assert told["usage"]["completion_tokens"] == 8

    answer = hosting.runtime.invoke_endpoint_with_response_stream(
        EndpointName=endpoint, ContentType="application/json", Body=json.dumps(QUESTION | {"stream": True})
    )
    assert answer["ContentType"].startswith("text/event-stream")
    said = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]).decode()
    events = [line.removeprefix("data: ") for line in said.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    pieces = [
        choice["delta"].get("content") or "" for one in events[:-1] for choice in json.loads(one)["choices"]
    ]
    assert "".join(pieces) == text

    hosting.update(endpoint, variant(hosting, BYOLLM__SERVER__MODEL_NAME="second"))
    hosting.settled(endpoint)
    assert hosting.invoke(endpoint, ContentType="application/json", **QUESTION)["model"] == "second"
    eventually(lambda: hosting.log(endpoint).count("listening on") == 2)
    hosting.delete(endpoint)


def variant(hosting: Hosting, **environment: str) -> Members:
    name = hosting.name("model")
    source = {
        "S3Uri": "s3://bundle/byollm-tiny/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    container = {"Image": REPOSITORY, "Environment": environment, "ModelDataSource": {"S3DataSource": source}}
    hosting.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return hosting.variant() | {"ModelName": name}
