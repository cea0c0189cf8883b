"""Buckets and tables: encrypted, versioned, over TLS only, kept where the settings say so."""

from typing import Any

from byollm.settings import load_settings
from tests.stacks.migration import STATEFUL
from tests.stacks.support import Synthesis


def buckets(synthesis: Synthesis) -> dict[str, Any]:
    """The buckets of the storage stack, by what they hold."""
    found = synthesis.of("storage", "AWS::S3::Bucket")
    return {name[:-8]: properties for name, properties in found.items()}


def test_data_models_artefacts_and_access_logs_have_a_bucket_each(synthesis: Synthesis) -> None:
    assert set(buckets(synthesis)) == {"Data", "Models", "Artefacts", "AccessLogs"}


def test_every_bucket_is_private_versioned_and_spoken_to_over_tls(synthesis: Synthesis) -> None:
    for role, name, bucket in synthesis.resources("AWS::S3::Bucket"):
        properties = bucket["Properties"]
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
        policies = synthesis.of(role, "AWS::S3::BucketPolicy").values()
        (policy,) = [policy for policy in policies if policy["Bucket"] == {"Ref": name}]
        refused = [
            statement["Condition"]
            for statement in policy["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Deny" and statement["Principal"] == {"AWS": "*"}
        ]
        assert {"Bool": {"aws:SecureTransport": "false"}} in refused
        assert {"NumericLessThan": {"s3:TlsVersion": 1.2}} in refused


def test_all_but_the_access_logs_are_under_our_key(synthesis: Synthesis) -> None:
    def encryption(bucket: Any) -> Any:
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        return rule["ServerSideEncryptionByDefault"]

    found = buckets(synthesis)
    assert encryption(found.pop("AccessLogs")) == {"SSEAlgorithm": "AES256"}
    for bucket in found.values():
        assert encryption(bucket)["SSEAlgorithm"] == "aws:kms"
        assert "keys" in str(encryption(bucket)["KMSMasterKeyID"])


def test_access_is_logged(synthesis: Synthesis) -> None:
    found = buckets(synthesis)
    found.pop("AccessLogs")
    prefixes = {bucket["LoggingConfiguration"]["LogFilePrefix"] for bucket in found.values()}
    assert prefixes == {"s3/data/", "s3/models/", "s3/artefacts/"}


def test_old_versions_and_old_objects_get_cheaper_or_go(synthesis: Synthesis) -> None:
    storage = load_settings(synthesis.env).storage
    for name, bucket in buckets(synthesis).items():
        (rule,) = bucket["LifecycleConfiguration"]["Rules"]
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
        if name == "AccessLogs":
            assert rule["ExpirationInDays"] == storage.access_log_days
            continue
        assert "ExpirationInDays" not in rule, "what is current stays"
        assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": storage.old_version_days}
        assert rule["Transitions"] == [
            {"StorageClass": "INTELLIGENT_TIERING", "TransitionInDays": storage.tiering_days}
        ]


def test_tables_are_encrypted_recoverable_and_paid_by_request(synthesis: Synthesis) -> None:
    tables = {name[:-8]: table for name, table in synthesis.of("storage", "AWS::DynamoDB::Table").items()}
    keys = {
        name: [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]]
        for name, table in tables.items()
    }
    assert keys == {
        "ApiKeys": [("key_hash", "HASH")],
        "Usage": [("tenant", "HASH"), ("request", "RANGE")],
        "Jobs": [("job", "HASH")],
    }
    for table in tables.values():
        assert table["SSESpecification"]["SSEType"] == "KMS"
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_prod_keeps_what_it_stores_and_dev_does_not(synthesis: Synthesis) -> None:
    retain = load_settings(synthesis.env).aws.retain
    assert retain == (synthesis.env == "prod")
    policy = "Retain" if retain else "Delete"
    for role, name, resource in synthesis.resources(*STATEFUL, "AWS::Logs::LogGroup"):
        policies = (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
        assert policies == (policy, policy), f"{role}/{name}"
    for table in synthesis.of("storage", "AWS::DynamoDB::Table").values():
        assert table["DeletionProtectionEnabled"] is retain


def test_dev_copies_no_models(dev: Synthesis) -> None:
    assert not [role for role in dev.templates if role.startswith("models-")]
    assert "ReplicationConfiguration" not in buckets(dev)["Models"]


def test_prod_copies_its_models_to_another_region(prod: Synthesis) -> None:
    replication = buckets(prod)["Models"]["ReplicationConfiguration"]
    (rule,) = replication["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["SourceSelectionCriteria"] == {"SseKmsEncryptedObjects": {"Status": "Enabled"}}

    (copy,) = prod.of("models-us-west-2", "AWS::S3::Bucket").values()
    (alias,) = prod.of("models-us-west-2", "AWS::KMS::Alias").values()
    there = copy["BucketName"]["Fn::Join"][1]
    assert rule["Destination"]["Bucket"] == {"Fn::Join": ["", [f"arn:aws:s3:::{there[0]}", *there[1:]]]}
    replica_key = rule["Destination"]["EncryptionConfiguration"]["ReplicaKmsKeyID"]["Fn::Join"][1]
    assert replica_key[-1] == f":{alias['AliasName']}"
