"""One instance serves the model: reached by nobody but Session Manager, and made anew when it dies."""

import subprocess
from typing import Any

from stacks.ec2 import START
from tests.stacks.support import Synthesis
from tests.stacks.whole import DIGEST


def template(synthesis: Synthesis) -> Any:
    (found,) = synthesis.of("ec2", "AWS::EC2::LaunchTemplate").values()
    return found["LaunchTemplateData"]


def test_it_is_off_unless_asked_for(dev: Synthesis, prod: Synthesis) -> None:
    assert "ec2" not in dev.templates
    assert "ec2" not in prod.templates


def test_the_instance_is_private_encrypted_and_guards_its_credentials(whole: Synthesis) -> None:
    data = template(whole)
    options = data["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
    (disk,) = data["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"] is True
    (interface,) = data["NetworkInterfaces"]
    assert interface["AssociatePublicIpAddress"] is False
    assert "KeyName" not in data, "nobody logs in over SSH"
    (group,) = whole.of("ec2", "AWS::AutoScaling::AutoScalingGroup").values()
    assert all("privateSubnet" in str(subnet) for subnet in group["VPCZoneIdentifier"])
    assert (group["MinSize"], group["MaxSize"]) == ("1", "1")


def test_the_machine_image_is_named_by_a_parameter_that_is_read_at_deployment(whole: Synthesis) -> None:
    parameters = whole.templates["ec2"]["Parameters"].values()
    (image,) = [each for each in parameters if "deeplearning" in str(each.get("Default"))]
    assert image["Type"] == "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"


def test_it_pulls_one_image_and_reads_one_model(whole: Synthesis) -> None:
    script = str(template(whole)["UserData"])
    assert f"@{DIGEST}" in script
    assert "byollm-tiny/1/" in script
    (policy,) = whole.of("ec2", "AWS::IAM::Policy").values()
    by_action = {
        action: statement
        for statement in policy["PolicyDocument"]["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert str(by_action["s3:GetObject"]["Resource"]).endswith("'/byollm-tiny/1/*']]}")
    assert "Inference" in str(by_action["ecr:BatchGetImage"]["Resource"])
    assert not [action for action in by_action if action.startswith(("s3:Put", "ssm:Get", "sagemaker:"))]


def test_what_it_starts_with_is_a_valid_script() -> None:
    words = dict.fromkeys(("bucket", "prefix", "region", "registry", "image", "logs", "gpus"), "x")
    checked = subprocess.run(
        ["bash", "-n"], input=START.format(**words), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
