"""Keys rotate, and services use them for this account only."""

from tests.stacks.support import Synthesis


def test_every_key_rotates(synthesis: Synthesis) -> None:
    for role, name, key in synthesis.resources("AWS::KMS::Key"):
        assert key["Properties"]["EnableKeyRotation"] is True, f"{role}/{name}"


def test_services_use_a_key_on_behalf_of_this_account_alone(dev: Synthesis) -> None:
    for key in dev.of("keys", "AWS::KMS::Key").values():
        for statement in key["KeyPolicy"]["Statement"]:
            if "Service" in statement["Principal"] and statement["Action"] != "kms:DescribeKey":
                assert "{'Ref': 'AWS::AccountId'}" in str(statement["Condition"])


def test_the_logging_service_uses_the_logs_key_only(dev: Synthesis) -> None:
    service = "logs.ca-central-1.amazonaws.com"
    keys = dev.of("keys", "AWS::KMS::Key").items()
    assert [name[:-8] for name, key in keys if service in str(key["KeyPolicy"])] == ["Logs"]
