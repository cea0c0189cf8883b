"""Whether the region has what the settings name, and the account may have as many of it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from byollm.aws import listed
from byollm.doctor.finding import Finding, failed, passed, warned
from byollm.doctor.patient import Patient
from byollm.settings import EndpointSpec, Settings

QUOTA_PAGE = "https://docs.aws.amazon.com/servicequotas/latest/userguide/request-quota-increase.html"
UNRESERVED = 100
VPCS, NAT_GATEWAYS, ADDRESSES = ("vpc", "L-F678F1CE"), ("vpc", "L-FE5A380F"), ("ec2", "L-0263D0A3")


def instance_types(patient: Patient) -> Iterator[Finding]:
    """EC2 offers every instance type in the network's zones; SageMaker publishes no such list."""
    settings = patient.settings
    zones = set(settings.network.zones)
    page = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-discovery.html"
    for setting, name in _instance_types(settings).items():
        offers = listed(
            patient.client("ec2"),
            "describe_instance_type_offerings",
            "InstanceTypeOfferings",
            LocationType="availability-zone",
            Filters=[{"Name": "instance-type", "Values": [name]}],
        )
        offered = {offer["Location"] for offer in offers}
        here, missing = ", ".join(sorted(zones & offered)), ", ".join(sorted(zones - offered))
        remedy = f"Choose another {setting} or other network.zones"
        if not here:
            elsewhere = f"in {', '.join(sorted(offered))}" if offered else "nowhere in the region"
            yield failed(f"EC2 does not offer {name} in {missing}; {elsewhere}", remedy, page)
        elif missing:
            yield warned(f"{name} is in {here} only: the loss of a zone can stop it", remedy, page)
        else:
            yield passed(f"{name} in {here}, going by what EC2 offers")


def _instance_types(settings: Settings) -> dict[str, str]:
    """Map each setting in use that names an instance type to EC2's name of it."""
    types = {"endpoint.instance_type": settings.endpoint.instance_type.removeprefix("ml.")}
    if settings.ec2.model_prefix:
        types["ec2.instance_type"] = settings.ec2.instance_type
    return types


def sagemaker_quotas(patient: Patient) -> Iterator[Finding]:
    """The account may have as many instances as an update of the whole fleet needs, and train on one."""
    jobs = patient.settings.jobs
    kind = "spot training job usage" if jobs.spot else "training job usage"
    training = [f"{name} for {kind}" for name in jobs.instance_types]
    endpoint = f"{patient.settings.endpoint.instance_type} for endpoint usage"
    quotas = _by_name(patient, "sagemaker", {endpoint, *training})
    yield _for_the_endpoint(patient.settings.endpoint, endpoint, quotas.get(endpoint))
    if any(quotas.get(name) for name in training):
        yield passed("; ".join(f"{name}: {quotas.get(name, 0):g}" for name in training))
    else:
        yield warned(
            f"no training job may run: the quota is 0 for each of {', '.join(training)}",
            "Ask for 1 of the first: Service Quotas, Amazon SageMaker",
            QUOTA_PAGE,
        )


def _for_the_endpoint(spec: EndpointSpec, name: str, quota: float | None) -> Finding:
    smallest, largest = max(spec.scaling.minimum, 1), spec.scaling.maximum
    least, most = _during_an_update(spec, smallest), _during_an_update(spec, largest)
    remedy = f"Ask for {most}: Service Quotas, Amazon SageMaker"
    if quota is None:
        return warned(f"SageMaker lists no quota named {name!r}", remedy, QUOTA_PAGE)
    needs = f"{name}: the quota is {quota:g}, and an update of {{}} needs {{}}"
    if quota < least:
        return failed(needs.format(f"{smallest} instances", least), remedy, QUOTA_PAGE)
    if quota < most:
        return warned(needs.format(f"{largest} instances", most), remedy, QUOTA_PAGE)
    return passed(needs.format(f"{largest} instances", most))


def network_quotas(patient: Patient) -> Iterator[Finding]:
    """There is room for a further network, where it is not there yet."""
    if f"byollm-{patient.env}-network" in patient.stacks():
        yield passed("the network is there")
        return
    settings, ec2 = patient.settings.network, patient.client("ec2")
    networks = len(list(listed(ec2, "describe_vpcs", "Vpcs")))
    addresses = len(ec2.describe_addresses()["Addresses"])
    for want in (
        _Want("VPCs of the region", VPCS, networks, 1),
        _Want("Elastic IP addresses", ADDRESSES, addresses, settings.nat_gateways),
        *(
            _Want(f"NAT gateways in {zone}", NAT_GATEWAYS, used, 1)
            for zone, used in _nat_gateways(patient, settings.zones[: settings.nat_gateways]).items()
        ),
    ):
        service, code = want.quota
        answer = patient.client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)
        quota = answer["Quota"]["Value"]
        if want.used + want.more > quota:
            yield failed(
                f"{want.what}: {want.used} of {quota:g} are in use, and {want.more} more are needed",
                f"Ask for more: Service Quotas, {service} {code}; or remove what nobody uses",
                QUOTA_PAGE,
            )
        else:
            yield passed(f"{want.what}: {want.used} of {quota:g} in use, {want.more} more needed")


def function_quota(patient: Patient) -> Iterator[Finding]:
    """Each function may have runs of its own reserved; AWS keeps a hundred of an account's for all others."""
    if f"byollm-{patient.env}-lifecycle" in patient.stacks():
        yield passed("the functions are there")
        return
    free = patient.client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    needed = len(list((patient.repository / "lambdas").glob("*/handler.py")))
    if free - needed < UNRESERVED:
        yield failed(
            f"{free} concurrent runs are free; {needed} are to be reserved, and {UNRESERVED} have to stay",
            "Ask for 1000: Service Quotas, AWS Lambda, Concurrent executions",
            "https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html",
        )
    else:
        yield passed(f"{free} concurrent runs are free; {needed} are to be reserved")


@dataclass(frozen=True)
class _Want:
    """How many more of something are needed, beside those in use."""

    what: str
    quota: tuple[str, str]
    used: int
    more: int


def _during_an_update(spec: EndpointSpec, fleet: int) -> int:
    """Instances that stand side by side while a new version takes over."""
    if spec.rollout.strategy == "rolling":
        return fleet + math.ceil(fleet * spec.rollout.step_percent / 100)
    return 2 * fleet


def _by_name(patient: Patient, service: str, names: set[str]) -> dict[str, float]:
    """Find quotas by name: SageMaker has one for each type and use, under codes that follow no rule."""
    found: dict[str, float] = {}
    for quota in listed(
        patient.client("service-quotas"), "list_service_quotas", "Quotas", ServiceCode=service
    ):
        if quota["QuotaName"] in names:
            found[quota["QuotaName"]] = quota["Value"]
        if len(found) == len(names):  # there are thousands, a hundred a page
            break
    return found


def _nat_gateways(patient: Patient, zones: tuple[str, ...]) -> dict[str, int]:
    """Count those of each zone that still count towards the quota."""
    ec2 = patient.client("ec2")
    zone_of = {net["SubnetId"]: net["AvailabilityZone"] for net in listed(ec2, "describe_subnets", "Subnets")}
    counting = [{"Name": "state", "Values": ["pending", "available", "deleting"]}]
    gateways = listed(ec2, "describe_nat_gateways", "NatGateways", Filters=counting)
    there = [zone_of.get(gateway["SubnetId"]) for gateway in gateways]
    return {zone: there.count(zone) for zone in zones}
