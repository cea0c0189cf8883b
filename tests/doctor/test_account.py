"""Credentials, clock, bootstrap and service-linked roles, each with its faults planted."""

from datetime import UTC, datetime, timedelta

import pytest
from moto import mock_aws

from byollm.doctor import Level
from byollm.doctor.account import (
    BOOTSTRAP_PARAMETER,
    LINKED_ROLES,
    bootstrap,
    clock,
    credentials,
    linked_roles,
)
from tests.doctor.support import ACCOUNT, ScriptedAws, connect, found, only, patient

USER = {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/ada", "UserId": "AIDA"}
ROOT = USER | {"Arn": f"arn:aws:iam::{ACCOUNT}:root"}


@mock_aws
def test_credentials_of_the_right_account_pass() -> None:
    only(found(credentials, patient(aws={"account": ACCOUNT})), Level.PASS, ACCOUNT)


def test_credentials_of_another_account_fail() -> None:
    who = patient(ScriptedAws({"GetCallerIdentity": USER}), aws={"account": "999999999999"})
    only(found(credentials, who), Level.FAIL, ACCOUNT, "999999999999")


def test_those_of_the_root_user_fail() -> None:
    only(found(credentials, patient(ScriptedAws({"GetCallerIdentity": ROOT}))), Level.FAIL, "root user")


def test_an_emulated_aws_may_call_its_only_user_root() -> None:
    who = patient(ScriptedAws({"GetCallerIdentity": ROOT}), aws={"endpoint_url": "http://localhost:1"})
    only(found(credentials, who), Level.PASS)


@pytest.mark.parametrize(
    ("seconds", "level"), [(0, Level.PASS), (-120, Level.WARN), (120, Level.WARN), (3600, Level.FAIL)]
)
def test_a_clock_that_is_off(seconds: int, level: Level) -> None:
    theirs = datetime.now(UTC) + timedelta(seconds=seconds)
    only(found(clock, patient(ScriptedAws({"GetCallerIdentity": USER}, date=theirs))), level)


def test_a_clock_so_wrong_that_aws_refuses_the_signature_is_still_told() -> None:
    theirs = datetime.now(UTC) + timedelta(hours=9)
    refused = ("SignatureDoesNotMatch", "Signature expired")
    aws = ScriptedAws({"GetCallerIdentity": refused}, date=theirs)
    only(found(clock, patient(aws)), Level.FAIL, "clock")


@mock_aws
def test_each_region_has_to_be_bootstrapped() -> None:
    connect("ssm", "ca-central-1").put_parameter(Name=BOOTSTRAP_PARAMETER, Value="30", Type="String")
    here, copy = found(bootstrap, patient(storage={"model_copies": ["us-west-2"]}))
    assert here.level == Level.PASS
    assert copy.level == Level.FAIL
    assert "us-west-2" in copy.seen
    assert "cdk bootstrap aws://ACCOUNT/us-west-2" in copy.remedy


@mock_aws
@pytest.mark.parametrize("version", ["5", "x"])
def test_an_old_bootstrap_fails(version: str) -> None:
    connect("ssm", "ca-central-1").put_parameter(Name=BOOTSTRAP_PARAMETER, Value=version, Type="String")
    only(found(bootstrap, patient()), Level.FAIL, f"version {version}")


@mock_aws
def test_missing_service_roles_are_named_with_their_command() -> None:
    finding = only(found(linked_roles, patient()), Level.WARN, *LINKED_ROLES.values())
    assert "create-service-linked-role --aws-service-name ecs.amazonaws.com" in finding.remedy


def test_service_roles_that_are_there_pass() -> None:
    role = {
        "Path": "/",
        "RoleName": "r",
        "RoleId": "AROAXXXXXXXXXXXXXXXX",
        "Arn": f"arn:aws:iam::{ACCOUNT}:role/r",
    }
    role["CreateDate"] = datetime.now(UTC)  # type: ignore[assignment]
    only(found(linked_roles, patient(ScriptedAws({"GetRole": {"Role": role}}))), Level.PASS)
