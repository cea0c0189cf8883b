"""The account: whose credentials these are, whether its clock agrees, and what was prepared in it once."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from botocore.exceptions import ClientError

from byollm.doctor.finding import Finding, failed, passed, warned
from byollm.doctor.patient import Patient

BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"  # of the CDK's default qualifier
BOOTSTRAP_VERSION = 6  # what every template of the CDK asks for
REFUSED_SECONDS, NOTICED_SECONDS = 300, 60  # a signature is valid for five minutes
LINKED_ROLES = {
    "AWSServiceRoleForECS": "ecs.amazonaws.com",
    "AWSServiceRoleForElasticLoadBalancing": "elasticloadbalancing.amazonaws.com",
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint": (
        "sagemaker.application-autoscaling.amazonaws.com"
    ),
    "AWSServiceRoleForApplicationAutoScaling_ECSService": "ecs.application-autoscaling.amazonaws.com",
}


def credentials(patient: Patient) -> Iterator[Finding]:
    """They are valid, of the account that the settings name, and not those of its owner."""
    identity = patient.client("sts").get_caller_identity()
    account, arn = identity["Account"], identity["Arn"]
    wanted = patient.settings.aws.account
    if wanted not in (None, account):
        yield failed(
            f"they are of account {account}, and aws.account is {wanted}",
            "Log in to the right account, or correct aws.account",
            "https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html",
        )
    elif arn.endswith(":root") and not patient.emulated:
        yield failed(
            f"they are those of the root user of {account}, which may do everything",
            "Use a role or a user of IAM Identity Center",
            "https://docs.aws.amazon.com/IAM/latest/UserGuide/root-user-best-practices.html",
        )
    else:
        yield passed(f"{arn} of account {account}")


def clock(patient: Patient) -> Iterator[Finding]:
    """It agrees with AWS's: a signature tells the time, and is refused when it is far off."""
    try:
        answer = patient.client("sts").get_caller_identity()
    except ClientError as refused:  # as it is when the clock is wrong
        answer = refused.response
    theirs = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    off = abs((datetime.now(UTC) - theirs).total_seconds())
    remedy = "Set the clock: `timedatectl set-ntp true`"
    page = "https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html"
    if off > REFUSED_SECONDS:
        yield failed(f"this machine's clock is {off:.0f} s off AWS's", remedy, page)
    elif off > NOTICED_SECONDS:
        yield warned(f"this machine's clock is {off:.0f} s off AWS's", remedy, page)
    else:
        yield passed(f"within {max(off, 1):.0f} s of AWS's")


def bootstrap(patient: Patient) -> Iterator[Finding]:
    """The CDK has its bucket and roles in every region that is deployed to."""
    for region in patient.regions:
        account = patient.settings.aws.account or "ACCOUNT"
        remedy = f"node_modules/.bin/cdk bootstrap aws://{account}/{region} -c env={patient.env}"
        page = "https://docs.aws.amazon.com/cdk/v2/guide/bootstrapping-env.html"
        try:
            answer = patient.client("ssm", region).get_parameter(Name=BOOTSTRAP_PARAMETER)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ParameterNotFound":
                raise
            yield failed(f"{region} is not prepared for the CDK", remedy, page)
            continue
        version = answer["Parameter"]["Value"]
        if not version.isdecimal() or int(version) < BOOTSTRAP_VERSION:
            yield failed(
                f"{region} is prepared for the CDK by version {version}; {BOOTSTRAP_VERSION} is needed",
                remedy,
                page,
            )
        else:
            yield passed(f"{region}: version {version}")


def linked_roles(patient: Patient) -> Iterator[Finding]:
    """Services have the roles that AWS makes at their first use, where whoever uses them may make it."""
    missing = []
    for role, service in LINKED_ROLES.items():
        try:
            patient.client("iam").get_role(RoleName=role)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            missing.append(service)
    if missing:
        yield warned(
            f"not there yet: those of {', '.join(missing)}. AWS makes them at first use, if it may",
            "; ".join(f"aws iam create-service-linked-role --aws-service-name {name}" for name in missing),
            "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create-service-linked-role.html",
        )
    else:
        yield passed("all are there")
