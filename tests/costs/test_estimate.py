"""The estimate adds up what the committed templates hold; its arithmetic is done here by hand."""

import pytest

from byollm.costs import HOURS, Load, PriceTable, claims, estimate
from byollm.costs.estimate import Estimate
from byollm.settings import EndpointSpec, NetworkSettings, Settings, load_settings
from tests.stacks.snapshots import read

TABLE = PriceTable.load()
LOAD = Load(requests=720_000, seconds=40.0, hours=100.0)


def of(env: str, load: Load | None = None, settings: Settings | None = None) -> Estimate:
    templates = read(env) | {role: template for role, template in read("whole").items() if role != "delivery"}
    return estimate(templates, settings or load_settings(env), TABLE, load)


def usd(found: Estimate, stack: str, item: str) -> float:
    return sum(line.usd for line in found.lines if (line.stack, line.item) == (stack, item))


@pytest.mark.parametrize(
    ("env", "stack", "item", "expected"),
    [
        ("dev", "keys", "encryption key", 2 * 1.00),
        ("dev", "network", "NAT gateway", 0.05 * 730),
        ("dev", "network", "public IPv4 address", 0.005 * 730),
        ("dev", "network", "interface endpoint", 0),
        ("prod", "network", "NAT gateway", 2 * 0.05 * 730),
        ("prod", "network", "interface endpoint", 8 * 2 * 0.011 * 730),
        ("prod", "models-us-west-2", "encryption key", 1.00),
        ("prod", "models-us-west-2", "S3 storage", 3 * 0.023),
        ("prod", "storage", "S3 storage", 3 * 0.025),
        ("dev", "services", "Fargate vCPU", (0.5 + 0.5) * 0.04456 * 730),
        ("dev", "services", "Fargate GB", (1 + 2) * 0.004865 * 730),
        ("dev", "services", "load balancer", 0.02475 * 730),
        ("dev", "services", "public IPv4 address", 2 * 0.005 * 730),
        ("dev", "services", "firewall", 5.00),
        ("dev", "services", "firewall rule", 4 * 1.00),
        ("dev", "ec2", "EC2 g5.xlarge", 1.117 * 730),
        ("dev", "ec2", "EBS gp3", 100 * 0.088),
        ("dev", "dashboards", "dashboard", 3 * 3.00),
        ("dev", "inference", "SageMaker ml.g5.4xlarge", 0),
        ("prod", "inference", "SageMaker ml.g5.4xlarge", 2 * 2.25 * 730),
    ],
)
def test_what_stands_all_month(env: str, stack: str, item: str, expected: float) -> None:
    assert usd(of(env), stack, item) == pytest.approx(expected)


def test_an_alarm_on_a_share_of_two_metrics_is_paid_twice() -> None:
    # Five alarms for each of the two services, of which one reads two metrics; and one for the load balancer.
    assert usd(of("dev"), "services", "alarm") == pytest.approx((2 * 6 + 1) * 0.10)


def test_the_sums_agree() -> None:
    found = of("prod", LOAD)
    assert found.usd == pytest.approx(sum(found.stacks.values()))
    assert found.usd == pytest.approx(sum(line.usd for line in found.lines))


def test_a_load_wakes_as_many_instances_as_it_needs_and_no_more_than_there_may_be() -> None:
    # 720,000 x 40 s in 100 h are 80 requests under way: 3 instances of 32, of which dev may have 1, prod 5.
    assert usd(of("dev", LOAD), "inference", "SageMaker ml.g5.4xlarge") == pytest.approx(2.25 * 100)
    in_prod = 2.25 * (3 * 100 + 2 * (HOURS - 100))
    assert usd(of("prod", LOAD), "inference", "SageMaker ml.g5.4xlarge") == pytest.approx(in_prod)


def test_each_variant_is_a_fleet() -> None:
    spec = EndpointSpec.model_validate({"variants": [{"name": "a"}, {"name": "b"}]})
    settings = load_settings("dev").model_copy(update={"endpoint": spec})
    found = of("dev", settings=settings)
    assert usd(found, "inference", "SageMaker ml.g5.4xlarge") == pytest.approx(2 * 2.25 * 730)


def test_bytes_take_the_way_that_the_network_has() -> None:
    gigabytes = 720_000 * 20_000 / 1e9
    assert usd(of("dev", LOAD), "services", "NAT gateway traffic") == pytest.approx(gigabytes * 0.05)
    assert usd(of("prod", LOAD), "services", "interface endpoint traffic") == pytest.approx(gigabytes * 0.01)
    assert usd(of("dev", LOAD), "services", "firewall request") == pytest.approx(0.72 * 0.6)
    assert usd(of("dev", LOAD), "services", "traffic to the internet") == pytest.approx(
        720_000 * 16_000 / 1e9 * 0.09, abs=0.01
    )


def test_requests_beyond_one_task_bring_up_more() -> None:
    busy = Load(requests=7_200_000, seconds=0.1, hours=100)  # 1,200 a minute; a task aims at 600
    more = usd(of("dev", busy), "services", "Fargate vCPU") - usd(of("dev"), "services", "Fargate vCPU")
    assert more == pytest.approx(1 * 0.5 * 0.04456 * 100)


def test_no_requests_are_the_idle_month() -> None:
    assert of("dev", Load(requests=0)).usd == pytest.approx(of("dev").usd)


def test_what_has_no_price_is_named_and_not_taken_for_free() -> None:
    elsewhere = load_settings("dev").model_copy(
        update={"aws": load_settings("dev").aws.model_copy(update={"region": "eu-west-1"})}
    )
    found = of("dev", settings=elsewhere)
    assert "NAT gateway" in found.unknown
    assert found.usd == 0


def test_a_network_without_nat_has_no_gateway_traffic() -> None:
    inside = NetworkSettings(nat_gateways=0, interface_endpoints=True)
    settings = load_settings("dev").model_copy(update={"network": inside})
    assert usd(of("dev", LOAD, settings), "services", "NAT gateway traffic") == 0


def test_the_claims_stand_beside_what_is_so_here() -> None:
    idle, loaded = of("dev"), of("dev", LOAD)
    (seven, month, hour) = claims(idle, loaded, TABLE, "ca-central-1")
    assert f"${idle.usd:,.0f}" in seven[1]
    assert f"${loaded.usd:,.0f}" in month[1]
    assert "$3,300" in month[0]
    assert "$2.03 in us-east-1, $2.25 in ca-central-1" in hour[1]
