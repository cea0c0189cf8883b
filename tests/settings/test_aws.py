"""What cannot be deployed is refused before anything is built, with the reason."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from byollm.settings import Settings, SettingsError, load_settings


def load(directory: Path, **sections: Any) -> Settings:
    (directory / "base.yaml").write_text("{}")
    (directory / "tried.yaml").write_text(yaml.safe_dump(sections))
    return load_settings("tried", directory)


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"aws": {"account": "12345"}}, "aws.account: "),
        ({"aws": {"region": "canada"}}, "aws.region: "),
        ({"aws": {"log_days": 31}}, "aws.log_days: "),
        ({"aws": {"region": "us-east-1"}}, "ca-central-1a, ca-central-1b is not in aws.region us-east-1"),
        ({"network": {"zones": ["ca-central-1a"]}}, "network.zones: "),
        ({"network": {"zones": ["ca-central-1a", "ca-central-1a"]}}, "name each zone once"),
        ({"network": {"cidr": "8.8.0.0/16"}}, "give a private network between /16 and /20"),
        ({"network": {"cidr": "10.0.0.0/24"}}, "give a private network between /16 and /20"),
        ({"network": {"cidr": "10.0.0.1/16"}}, "has host bits set"),
        ({"network": {"nat_gateways": 3}}, "set nat_gateways to 2 or less"),
        ({"network": {"nat_gateways": 0}}, "https://docs.aws.amazon.com/AmazonECR"),
        ({"network": {"gateway_port": 80}}, "network.gateway_port: "),
        ({"network": {"gateway_port": 9000, "frontend_port": 9000}}, "one port for each"),
        ({"storage": {"model_copies": ["ca-central-1"]}}, "ca-central-1 is aws.region itself"),
        ({"storage": {"model_copies": ["us-west-2", "us-west-2"]}}, "name each region once"),
        ({"storage": {"images_kept": 1}}, "storage.images_kept: "),
    ],
)
def test_the_impossible_is_refused_with_the_reason(
    tmp_path: Path, sections: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(tmp_path, **sections)
    assert reason in str(refusal.value)


def test_a_region_comes_with_its_zones(tmp_path: Path) -> None:
    network = {"zones": ["us-east-1a", "us-east-1c", "us-east-1d"], "nat_gateways": 3}
    settings = load(tmp_path, aws={"region": "us-east-1"}, network=network)
    assert settings.network.zones[-1] == "us-east-1d"


def test_no_nat_gateway_is_possible_with_interface_endpoints(tmp_path: Path) -> None:
    load(tmp_path, network={"nat_gateways": 0, "interface_endpoints": True})
