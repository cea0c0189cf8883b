"""The certificate and the connection to the code, each with its faults planted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto import mock_aws

from byollm.doctor import Level
from byollm.doctor.connections import certificate, connection, exposure
from tests.doctor.support import ACCOUNT, ScriptedAws, connect, found, only, patient

CERTIFICATE = f"arn:aws:acm:ca-central-1:{ACCOUNT}:certificate/0"
CONNECTION = f"arn:aws:codeconnections:us-east-1:{ACCOUNT}:connection/0"


def services(domain: str | None = "chat.example.com", arn: str = CERTIFICATE) -> dict[str, Any]:
    return {"certificate_arn": arn, "domain": domain}


def issued(**changes: Any) -> ScriptedAws:
    good = {"CertificateArn": CERTIFICATE, "DomainName": "chat.example.com", "Status": "ISSUED"}
    good["NotAfter"] = datetime.now(UTC) + timedelta(days=300)  # type: ignore[assignment]
    return ScriptedAws({"DescribeCertificate": {"Certificate": good | changes}})


def test_no_certificate_is_a_warning() -> None:
    only(found(certificate, patient()), Level.WARN, "plain HTTP")


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, Level.PASS, "issued for chat.example.com"),
        ({"DomainName": "*.example.com"}, Level.PASS, "*.example.com"),
        ({"DomainName": "x.org", "SubjectAlternativeNames": ["chat.example.com"]}, Level.PASS, "x.org"),
        ({"Status": "PENDING_VALIDATION"}, Level.FAIL, "PENDING_VALIDATION"),
        ({"Status": "EXPIRED"}, Level.FAIL, "EXPIRED"),
        ({"DomainName": "example.com"}, Level.FAIL, "not for chat.example.com"),
        ({"DomainName": "*.com"}, Level.FAIL, "not for chat.example.com"),
        ({"NotAfter": datetime.now(UTC) + timedelta(days=9)}, Level.WARN, "ends on"),
    ],
)
def test_a_certificate_by_its_state(changes: dict[str, Any], level: Level, words: str) -> None:
    only(found(certificate, patient(issued(**changes), services=services())), level, words)


@mock_aws
def test_a_certificate_that_is_not_there_fails() -> None:
    only(found(certificate, patient(services=services())), Level.FAIL, CERTIFICATE)


@mock_aws
def test_a_certificate_just_requested_is_not_issued() -> None:
    acm = connect("acm", "ca-central-1")
    arn = acm.request_certificate(DomainName="chat.example.com", ValidationMethod="DNS")["CertificateArn"]
    only(found(certificate, patient(services=services(arn=arn))), Level.FAIL, "PENDING_VALIDATION")


def test_no_pipeline_needs_no_connection() -> None:
    only(found(connection, patient()), Level.PASS)


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        (
            {"Connection": {"ConnectionName": "code", "ConnectionStatus": "AVAILABLE"}},
            Level.PASS,
            "available",
        ),
        ({"Connection": {"ConnectionName": "code", "ConnectionStatus": "PENDING"}}, Level.FAIL, "PENDING"),
        (("ResourceNotFoundException", "none"), Level.FAIL, "does not exist"),
    ],
)
def test_a_connection_by_its_state(answer: Any, level: Level, words: str) -> None:
    aws = ScriptedAws({"GetConnection": answer})
    delivery = {"connection_arn": CONNECTION, "repository": "ada/llm"}
    only(found(connection, patient(aws, delivery=delivery)), level, words)
    assert aws.calls == [("GetConnection", "us-east-1")]


@pytest.mark.parametrize(
    ("services", "level", "words"),
    [
        ({}, Level.WARN, "whoever is in 0.0.0.0/0 may use the model"),
        ({"sources": ["10.0.0.0/8", "8.8.8.0/24"]}, Level.WARN, "whoever is in 8.8.8.0/24"),
        ({"sources": ["10.0.0.0/8"]}, Level.PASS, "only 10.0.0.0/8"),
        ({"login": True, "certificate_arn": CERTIFICATE, "domain": "a.example.com"}, Level.PASS, "log in"),
    ],
)
def test_who_may_ask_the_model_is_said(services: dict[str, Any], level: Level, words: str) -> None:
    only(found(exposure, patient(services=services)), level, words)
