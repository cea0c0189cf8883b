"""CloudFormation of the emulated AWS: what stacks promise, on small templates."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from tests.local.running import Platform

Resources = dict[str, Any]
SOON = {"Delay": 0.1, "MaxAttempts": 600}
TOPIC = {"Type": "AWS::SNS::Topic"}
BROKEN = {"Type": "AWS::WAFv2::WebACLAssociation", "Properties": {"ResourceArn": "a", "WebACLArn": "b"}}


class Stack:
    """One stack, deployed by change sets as the CDK does."""

    def __init__(self, platform: Platform, name: str) -> None:
        self.platform, self.name = platform, name
        self.cloud = platform.client("cloudformation")
        self.deployed = 0

    def deploy(self, resources: Resources, **more: Any) -> str:
        """Create or update it; return the status that it ends in."""
        try:
            self.status()
            kind, wait = "UPDATE", "stack_update_complete"
        except ClientError:
            kind, wait = "CREATE", "stack_create_complete"
        template = json.dumps({"Resources": resources, **more})
        tags = [{"Key": "owner", "Value": "tests"}]
        self.deployed += 1
        key = {"StackName": self.name, "ChangeSetName": f"change-{self.deployed}"}
        given = {**key, "TemplateBody": template, "Tags": tags}
        self.cloud.create_change_set(ChangeSetType=kind, Capabilities=["CAPABILITY_NAMED_IAM"], **given)
        self.cloud.get_waiter("change_set_create_complete").wait(WaiterConfig={"Delay": 0}, **key)
        self.changes = self.cloud.describe_change_set(**key)["Changes"]
        self.cloud.execute_change_set(**key)
        with contextlib.suppress(WaiterError):
            self.cloud.get_waiter(wait).wait(StackName=self.name, WaiterConfig=SOON)
        return self.status()

    def status(self) -> str:
        status: str = self.cloud.describe_stacks(StackName=self.name)["Stacks"][0]["StackStatus"]
        return status

    def id_of(self, logical_id: str) -> str:
        found = self.cloud.describe_stack_resource(StackName=self.name, LogicalResourceId=logical_id)
        id: str = found["StackResourceDetail"]["PhysicalResourceId"]
        return id

    def outputs(self) -> dict[str, str]:
        found = self.cloud.describe_stacks(StackName=self.name)["Stacks"][0].get("Outputs", [])
        return {output["OutputKey"]: output["OutputValue"] for output in found}

    def events(self) -> list[tuple[str, str]]:
        found = self.cloud.describe_stack_events(StackName=self.name)["StackEvents"]
        return [(event["LogicalResourceId"], event["ResourceStatus"]) for event in reversed(found)]

    def reasons(self) -> str:
        found = self.cloud.describe_stack_events(StackName=self.name)["StackEvents"]
        return " ".join(event.get("ResourceStatusReason", "") for event in found)

    def destroy(self) -> None:
        id = self.cloud.describe_stacks(StackName=self.name)["Stacks"][0]["StackId"]
        self.cloud.delete_stack(StackName=self.name)
        self.cloud.get_waiter("stack_delete_complete").wait(StackName=id, WaiterConfig=SOON)


@pytest.fixture
def stack(platform: Platform, request: pytest.FixtureRequest) -> Iterator[Stack]:
    one = Stack(platform, request.node.name.replace("_", "-").split("[")[0][:80])
    yield one
    with contextlib.suppress(ClientError):  # the test removed it
        one.destroy()


def refused(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except ClientError:
        return True
    return False


def alarm(**properties: Any) -> Resources:
    given = {
        "Namespace": "test",
        "MetricName": "m",
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        **properties,
    }
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": given}


def test_a_stack_is_made_told_of_and_removed(platform: Platform, stack: Stack) -> None:
    outputs = {"Name": {"Value": {"Fn::GetAtt": ["Topic", "TopicName"]}}}
    assert stack.deploy({"Topic": TOPIC, "Alarm": alarm(AlarmActions=[{"Ref": "Topic"}])}, Outputs=outputs)
    assert stack.status() == "CREATE_COMPLETE"
    events = stack.events()
    assert events.index(("Topic", "CREATE_COMPLETE")) < events.index(("Alarm", "CREATE_IN_PROGRESS"))
    assert events[-1] == (stack.name, "CREATE_COMPLETE")
    topic = stack.id_of("Topic")
    assert stack.outputs()["Name"] == topic.rpartition(":")[2]
    stack.destroy()
    assert refused(lambda: platform.client("sns").get_topic_attributes(TopicArn=topic))
    assert refused(stack.status)


def test_a_property_is_changed_in_place_and_readable(platform: Platform, stack: Stack) -> None:
    formula = [
        {"Id": "rate", "Expression": "100 * a / MAX([a, 1])", "ReturnData": True},
        {
            "Id": "a",
            "MetricStat": {"Metric": {"Namespace": "n", "MetricName": "a"}, "Period": 60, "Stat": "Sum"},
            "ReturnData": False,
        },
    ]
    computed = dict.fromkeys(("Namespace", "MetricName", "Statistic", "Period"))
    rate = alarm(Metrics=formula, **computed)
    rate["Properties"] = {key: value for key, value in rate["Properties"].items() if value is not None}
    assert stack.deploy({"Alarm": alarm(), "Rate": rate}) == "CREATE_COMPLETE"
    name = stack.id_of("Alarm")
    assert stack.deploy({"Alarm": alarm(Threshold=7), "Rate": rate}) == "UPDATE_COMPLETE"
    assert stack.id_of("Alarm") == name
    watch = platform.client("cloudwatch")
    [found] = watch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert (found["Threshold"], found["TreatMissingData"]) == (7, "notBreaching")
    tags = watch.list_tags_for_resource(ResourceARN=found["AlarmArn"])["Tags"]
    assert {"Key": "owner", "Value": "tests"} in tags
    [found] = watch.describe_alarms(AlarmNames=[stack.id_of("Rate")])["MetricAlarms"]
    assert found["Metrics"][0]["Expression"] == formula[0]["Expression"]


def test_what_cannot_be_changed_in_place_is_replaced_and_its_users_follow(
    platform: Platform, stack: Stack
) -> None:
    def resources(domain: str) -> Resources:
        address = {"Type": "AWS::EC2::EIP", "Properties": {"Domain": domain}}
        note = {"Type": "String", "Value": {"Fn::GetAtt": ["Address", "AllocationId"]}}
        return {"Address": address, "Note": {"Type": "AWS::SSM::Parameter", "Properties": note}}

    assert stack.deploy(resources("vpc")) == "CREATE_COMPLETE"
    before = stack.id_of("Address")
    assert stack.deploy(resources("standard")) == "UPDATE_COMPLETE"
    after = stack.id_of("Address")
    assert before != after
    addresses = platform.client("ec2").describe_addresses()["Addresses"]
    [found] = [address for address in addresses if address["PublicIp"] == after]
    value = platform.client("ssm").get_parameter(Name=stack.id_of("Note"))["Parameter"]["Value"]
    assert value == found["AllocationId"]
    assert before not in [address["PublicIp"] for address in addresses]


def test_a_failed_update_is_rolled_back(platform: Platform, stack: Stack) -> None:
    assert stack.deploy({"Alarm": alarm()}) == "CREATE_COMPLETE"
    wanted = {"Alarm": alarm(Threshold=9), "Topic": TOPIC}
    assert stack.deploy(wanted | {"Broken": BROKEN | {"DependsOn": [*wanted]}}) == "UPDATE_ROLLBACK_COMPLETE"
    assert "WebACLArn" in stack.reasons()
    [found] = platform.client("cloudwatch").describe_alarms(AlarmNames=[stack.id_of("Alarm")])["MetricAlarms"]
    assert found["Threshold"] == 1
    assert ("Topic", "DELETE_COMPLETE") in stack.events()
    assert stack.deploy({"Alarm": alarm(Threshold=3)}) == "UPDATE_COMPLETE"


def test_a_failed_creation_leaves_nothing(platform: Platform, stack: Stack) -> None:
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "left-behind"}}
    status = stack.deploy({"Topic": topic, "Broken": BROKEN | {"DependsOn": "Topic"}})
    assert status == "ROLLBACK_COMPLETE"
    topics = platform.client("sns").list_topics()["Topics"]
    assert not [topic for topic in topics if "left-behind" in topic["TopicArn"]]


def test_a_type_that_is_not_known_fails(stack: Stack) -> None:
    with pytest.raises(ClientError, match=r"Unrecognized resource types: \[AWS::Unknown::Thing\]"):
        stack.deploy({"Thing": {"Type": "AWS::Unknown::Thing"}})


def test_a_property_that_is_not_known_fails(stack: Stack) -> None:
    assert stack.deploy({"Alarm": alarm(Colour="red")}) == "ROLLBACK_COMPLETE"
    assert "Colour" in stack.reasons()


def test_what_its_template_names_is_not_replaced(stack: Stack) -> None:
    def group(text: str) -> Resources:
        given = {"BudgetName": "named", "BudgetType": "COST", "TimeUnit": "MONTHLY"}
        limit = {"BudgetLimit": {"Amount": text, "Unit": "USD"}}
        return {"Budget": {"Type": "AWS::Budgets::Budget", "Properties": {"Budget": {**given, **limit}}}}

    assert stack.deploy(group("10")) == "CREATE_COMPLETE"
    assert stack.deploy(group("20")) == "UPDATE_COMPLETE"
    assert stack.id_of("Budget") == "named"


def test_no_change_is_told(stack: Stack) -> None:
    assert stack.deploy({"Topic": TOPIC}) == "CREATE_COMPLETE"
    with pytest.raises(WaiterError) as error:
        stack.deploy({"Topic": TOPIC})
    assert "didn't contain changes" in str(error.value.last_response["StatusReason"])


def test_drift_is_found(platform: Platform, stack: Stack) -> None:
    queue = {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": 30}}
    assert stack.deploy({"Queue": queue}) == "CREATE_COMPLETE"

    def drift() -> str:
        started = stack.cloud.detect_stack_drift(StackName=stack.name)["StackDriftDetectionId"]
        found = stack.cloud.describe_stack_drift_detection_status(StackDriftDetectionId=started)
        status: str = found["StackDriftStatus"]
        return status

    assert drift() == "IN_SYNC"
    attributes = {"VisibilityTimeout": "31"}
    platform.client("sqs").set_queue_attributes(QueueUrl=stack.id_of("Queue"), Attributes=attributes)
    assert drift() == "DRIFTED"


def test_rules_of_security_groups_are_made_and_removed(platform: Platform, stack: Stack) -> None:
    group = {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {"GroupDescription": "g", "VpcId": {"Ref": "Vpc"}},
    }
    rule = {
        "GroupId": {"Ref": "Group"},
        "IpProtocol": "tcp",
        "FromPort": 80,
        "ToPort": 80,
        "CidrIp": "10.0.0.0/8",
    }
    base = {"Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}, "Group": group}
    with_rule = {**base, "Rule": {"Type": "AWS::EC2::SecurityGroupIngress", "Properties": rule}}
    assert stack.deploy(with_rule) == "CREATE_COMPLETE"
    ec2 = platform.client("ec2")
    id = stack.id_of("Group")

    def sources() -> list[str]:
        [found] = ec2.describe_security_groups(GroupIds=[id])["SecurityGroups"]
        return [source["CidrIp"] for allowed in found["IpPermissions"] for source in allowed["IpRanges"]]

    assert sources() == ["10.0.0.0/8"]
    assert stack.deploy(base) == "UPDATE_COMPLETE"
    assert sources() == []


def test_a_pipeline_is_kept_as_its_template_has_it(platform: Platform, stack: Stack) -> None:
    def pipeline(branch: str) -> Resources:
        source = {
            "Name": "Source",
            "ActionTypeId": {
                "Category": "Source",
                "Owner": "AWS",
                "Provider": "CodeStarSourceConnection",
                "Version": "1",
            },
            "Configuration": {"BranchName": branch, "DetectChanges": True},
            "OutputArtifacts": [{"Name": "Source"}],
        }
        approval = {
            "Name": "Approve",
            "ActionTypeId": {"Category": "Approval", "Owner": "AWS", "Provider": "Manual", "Version": "1"},
        }
        stages = [{"Name": "Source", "Actions": [source]}, {"Name": "Approve", "Actions": [approval]}]
        given = {
            "Name": "kept",
            "RoleArn": "arn:aws:iam::123456789012:role/r",
            "PipelineType": "V2",
            "ArtifactStore": {"Type": "S3", "Location": "bucket"},
            "Stages": stages,
            "RestartExecutionOnUpdate": True,
        }
        return {"Pipeline": {"Type": "AWS::CodePipeline::Pipeline", "Properties": given}}

    assert stack.deploy(pipeline("one")) == "CREATE_COMPLETE"
    assert stack.deploy(pipeline("two")) == "UPDATE_COMPLETE"
    found = platform.client("codepipeline").get_pipeline(name="kept")["pipeline"]
    assert found["version"] == 2
    told = found["stages"][0]["actions"][0]["configuration"]
    assert told == {"BranchName": "two", "DetectChanges": "true"}
    stack.destroy()
    assert platform.client("codepipeline").list_pipelines()["pipelines"] == []
