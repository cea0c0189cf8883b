"""The ways in: the certificate, who may ask the model, the connection to the code."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

from botocore.exceptions import ClientError

from byollm.doctor.finding import Finding, failed, passed, warned
from byollm.doctor.patient import Patient

SOON = timedelta(days=30)
ANYBODY = "0.0.0.0/0"


def certificate(patient: Patient) -> Iterator[Finding]:
    """The load balancer's certificate is issued, stands in its region and is not about to end."""
    arn = patient.settings.services.certificate_arn
    page = "https://docs.aws.amazon.com/acm/latest/userguide/domain-ownership-validation.html"
    if arn is None:
        yield warned(
            "none is set, so the page and the API speak plain HTTP",
            "Request one in ACM, and set services.certificate_arn and services.domain",
            "https://docs.aws.amazon.com/acm/latest/userguide/acm-public-certificates.html",
        )
        return
    try:
        found = patient.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        yield failed(
            f"{arn} is not in {patient.settings.aws.region}",
            "Request it in that region: a load balancer takes those of its own only",
            page,
        )
        return
    names = {found["DomainName"], *found.get("SubjectAlternativeNames", ())}
    domain = patient.settings.services.domain
    if found["Status"] != "ISSUED":
        yield failed(
            f"the one for {found['DomainName']} is {found['Status']}",
            "Add the DNS records that ACM shows for it, and wait until it is issued",
            page,
        )
    elif domain and not any(_covers(name, domain) for name in names):
        yield failed(f"it is for {', '.join(sorted(names))}, not for {domain}", "Request one for it", page)
    elif "NotAfter" in found and found["NotAfter"] - datetime.now(UTC) < SOON:
        yield warned(
            f"the one for {found['DomainName']} ends on {found['NotAfter']:%Y-%m-%d}",
            "See in ACM why it was not renewed",
            "https://docs.aws.amazon.com/acm/latest/userguide/troubleshooting-renewal.html",
        )
    else:
        yield passed(f"issued for {found['DomainName']}")


def exposure(patient: Patient) -> Iterator[Finding]:
    """Who may ask the model: the gateway asks for no key, so a login or the network decides."""
    services = patient.settings.services
    wide = [source for source in services.sources if ip_network(source).is_global or source == ANYBODY]
    if services.login:
        yield passed("people log in, and programs show an access token")
    elif wide:
        yield warned(
            f"whoever is in {', '.join(wide)} may use the model: there is no login, and the gateway asks for "
            "no key",
            "Set services.login, or narrow services.sources to those who may",
            "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-authenticate-users.html",
        )
    else:
        yield passed(f"only {', '.join(services.sources)} may use the model")


def connection(patient: Patient) -> Iterator[Finding]:
    """The pipeline's connection to the code's host was approved."""
    arn = patient.settings.delivery.connection_arn
    page = "https://docs.aws.amazon.com/dtconsole/latest/userguide/connections-update.html"
    if arn is None:
        yield passed("no pipeline is set")
        return
    region = arn.split(":")[3]
    try:
        found = patient.client("codeconnections", region).get_connection(ConnectionArn=arn)["Connection"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        yield failed(f"{arn} does not exist", "Make it in the console, and set delivery.connection_arn", page)
        return
    if found["ConnectionStatus"] != "AVAILABLE":
        yield failed(
            f"{found['ConnectionName']} is {found['ConnectionStatus']}",
            "Approve it in the console: Developer Tools, Settings, Connections",
            page,
        )
    else:
        yield passed(f"{found['ConnectionName']} is available")


def _covers(name: str, domain: str) -> bool:
    """Tell whether a certificate's name, perhaps with a wildcard for one label, is that of `domain`."""
    return name == domain or (name.startswith("*.") and name[2:] == domain.partition(".")[2])
