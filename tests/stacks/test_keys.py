"""Keys rotate, and the logging service can use only the one for logs."""

from tests.stacks.support import Synthesis


def test_every_key_rotates(synthesis: Synthesis) -> None:
    for role, name, key in synthesis.resources("AWS::KMS::Key"):
        assert key["Properties"]["EnableKeyRotation"] is True, f"{role}/{name}"


def test_only_the_logs_key_is_open_to_a_service_and_for_this_account_alone(dev: Synthesis) -> None:
    opened = {
        name: statement
        for name, key in dev.of("keys", "AWS::KMS::Key").items()
        for statement in key["KeyPolicy"]["Statement"]
        if "Service" in statement["Principal"]
    }
    ((name, statement),) = opened.items()
    assert name.startswith("Logs")
    assert statement["Principal"] == {"Service": "logs.ca-central-1.amazonaws.com"}
    context = statement["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    assert {"Ref": "AWS::AccountId"} in context["Fn::Join"][1]
