"""Functions run from their bundles, as processes; what is relied on of ministack here."""

import io
import json
import textwrap
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.running import Platform, eventually

POWERTOOLS = "arn:aws:lambda:ca-central-1:017000801446:layer:AWSLambdaPowertoolsPythonV3-python312-arm64:7"

HANDLER = """
    import json, os, time
    import boto3
    from aws_lambda_powertools import Logger
    from bundled import NAME

    logger = Logger(service="test")

    def handle(event, context):
        logger.info("asked", extra={"event": event})
        match event.get("do"):
            case "fail":
                raise ValueError("as asked")
            case "sleep":
                time.sleep(30)
            case "again":
                boto3.client("lambda").invoke(
                    FunctionName=context.function_name, InvocationType="Event", Payload='{"do": "mark"}'
                )
            case "mark":
                boto3.client("ssm").put_parameter(Name="/marked", Value="yes", Type="String", Overwrite=True)
        if "Records" in event or "detail" in event:
            text = json.dumps(event)
            boto3.client("ssm").put_parameter(Name="/told", Value=text, Type="String", Overwrite=True)
        return {
            "bundled": NAME,
            "setting": os.environ["SETTING"],
            "region": os.environ["AWS_REGION"],
            "account": boto3.client("sts").get_caller_identity()["Account"],
            "left": context.get_remaining_time_in_millis(),
            "secrets": [name for name in os.environ if name.startswith("PLANTED")],
        }
"""


def bundle(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/") + ".py", textwrap.dedent(text))
    return packed.getvalue()


Invoke = Callable[..., Any]


@pytest.fixture(scope="module")
def function(platform: Platform) -> str:
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}]}
    role = platform.client("iam").create_role(RoleName="f", AssumeRolePolicyDocument=json.dumps(trust))
    made = platform.client("lambda").create_function(
        FunctionName="f",
        Runtime="python3.12",
        Architectures=["arm64"],
        Handler="inner.handler.handle",
        Role=role["Role"]["Arn"],
        Code={"ZipFile": bundle(inner__handler=HANDLER, bundled="NAME = 'the bundle'")},
        Timeout=60,
        Layers=[POWERTOOLS],
        Environment={"Variables": {"SETTING": "set"}},
    )
    platform.client("lambda").get_waiter("function_active_v2").wait(FunctionName="f")
    arn: str = made["FunctionArn"]
    return arn


@pytest.fixture(scope="module")
def invoke(platform: Platform, function: str) -> Invoke:
    def call(event: object) -> Any:
        answer = platform.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
        return answer.get("FunctionError"), json.loads(answer["Payload"].read())

    return call


def test_the_bundle_runs_with_its_environment_and_its_own_aws(invoke: Invoke) -> None:
    error, answer = invoke({})
    assert error is None
    assert answer["bundled"] == "the bundle"
    assert (answer["setting"], answer["region"]) == ("set", "ca-central-1")
    assert answer["account"] == "123456789012"
    assert 0 < answer["left"] <= 60_000


def test_what_it_logs_is_in_its_log_group(platform: Platform, invoke: Invoke) -> None:
    invoke({"told": "to be found"})

    def logged() -> bool:
        found = platform.client("logs").filter_log_events(logGroupName="/aws/lambda/f")["events"]
        return any("to be found" in event["message"] for event in found)

    eventually(logged)


def test_an_exception_is_an_error_with_its_name(invoke: Invoke) -> None:
    error, answer = invoke({"do": "fail"})
    assert error == "Unhandled"
    assert (answer["errorType"], answer["errorMessage"]) == ("ValueError", "as asked")


def test_a_function_that_takes_too_long_is_ended(platform: Platform, invoke: Invoke) -> None:
    platform.client("lambda").update_function_configuration(FunctionName="f", Timeout=1)
    error, answer = invoke({"do": "sleep"})
    platform.client("lambda").update_function_configuration(FunctionName="f", Timeout=60)
    assert error == "Unhandled"
    assert "timed out" in answer["errorMessage"]


def parameter(platform: Platform, name: str) -> str | None:
    try:
        value: str = platform.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    except ClientError:
        return None
    return value


def test_it_may_invoke_itself_without_waiting(platform: Platform, invoke: Invoke) -> None:
    assert invoke({"do": "again"})[0] is None
    eventually(lambda: parameter(platform, "/marked") == "yes")


def test_topics_tell_it(platform: Platform, function: str) -> None:
    sns = platform.client("sns")
    topic = sns.create_topic(Name="telling")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function)
    platform.client("lambda").add_permission(
        FunctionName="f", StatementId="sns", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com"
    )
    sns.publish(TopicArn=topic, Message="from the topic")
    eventually(lambda: "from the topic" in (parameter(platform, "/told") or ""))


def test_rules_tell_it(platform: Platform, function: str) -> None:
    events = platform.client("events")
    pattern = {"source": ["byollm.test"], "detail": {"kind": ["wanted"]}}
    rule = events.put_rule(Name="telling", EventPattern=json.dumps(pattern))["RuleArn"]
    events.put_targets(Rule="telling", Targets=[{"Id": "f", "Arn": function}])
    platform.client("lambda").add_permission(
        FunctionName="f",
        StatementId="events",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
    )
    entry = {"Source": "byollm.test", "DetailType": "t"}
    for kind in ("other", "wanted"):
        events.put_events(Entries=[{**entry, "Detail": json.dumps({"kind": kind})}])
    eventually(lambda: '"wanted"' in (parameter(platform, "/told") or ""))


def test_a_failed_event_ends_in_the_dead_letter_queue(platform: Platform, function: str) -> None:
    sqs = platform.client("sqs")
    url = sqs.create_queue(QueueName="dead")["QueueUrl"]
    assert url.startswith(platform.address)
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client = platform.client("lambda")
    client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=0)
    client.update_function_configuration(FunctionName="f", DeadLetterConfig={"TargetArn": arn})
    client.invoke(FunctionName="f", InvocationType="Event", Payload='{"do": "fail"}')
    eventually(lambda: "Messages" in sqs.receive_message(QueueUrl=url))
