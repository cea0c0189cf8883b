"""The attributes of load balancers, target groups and listeners: their defaults, and what they may be.

<https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancerAttribute.html> and
`API_TargetGroupAttribute`, `API_ListenerAttribute` beside it, for application load balancers.
"""

import re

from byollm.local.balancer.state import Document, Kind
from byollm.local.protocol import AwsError

FLAG = "true|false"
ANY = ".*"

# the pattern of a value, after its default; `\d+:a:b` is a number from a to b
DEFAULTS: dict[Kind, dict[str, tuple[str, str]]] = {
    "LoadBalancer": {
        "access_logs.s3.bucket": ("", ANY),
        "access_logs.s3.enabled": ("false", FLAG),
        "access_logs.s3.prefix": ("", ANY),
        "client_keep_alive.seconds": ("3600", "60:604800"),
        "connection_logs.s3.bucket": ("", ANY),
        "connection_logs.s3.enabled": ("false", FLAG),
        "connection_logs.s3.prefix": ("", ANY),
        "deletion_protection.enabled": ("false", FLAG),
        "idle_timeout.timeout_seconds": ("60", "1:4000"),
        "ipv6.deny_all_igw_traffic": ("false", FLAG),
        "load_balancing.cross_zone.enabled": ("true", "true"),
        "routing.http.desync_mitigation_mode": ("defensive", "monitor|defensive|strictest"),
        "routing.http.drop_invalid_header_fields.enabled": ("false", FLAG),
        "routing.http.preserve_host_header.enabled": ("false", FLAG),
        "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": ("false", FLAG),
        "routing.http.xff_client_port.enabled": ("false", FLAG),
        "routing.http.xff_header_processing.mode": ("append", "append|preserve|remove"),
        "routing.http2.enabled": ("true", FLAG),
        "waf.fail_open.enabled": ("false", FLAG),
        "zonal_shift.config.enabled": ("false", FLAG),
    },
    "TargetGroup": {
        "deregistration_delay.timeout_seconds": ("300", "0:3600"),
        "load_balancing.algorithm.anomaly_mitigation": ("off", "on|off"),
        "load_balancing.algorithm.type": (
            "round_robin",
            "round_robin|least_outstanding_requests|weighted_random",
        ),
        "load_balancing.cross_zone.enabled": (
            "use_load_balancer_configuration",
            f"{FLAG}|use_load_balancer_configuration",
        ),
        "slow_start.duration_seconds": ("0", "0:900"),
        "stickiness.app_cookie.cookie_name": ("", ANY),
        "stickiness.app_cookie.duration_seconds": ("86400", "1:604800"),
        "stickiness.enabled": ("false", FLAG),
        "stickiness.lb_cookie.duration_seconds": ("86400", "1:604800"),
        "stickiness.type": ("lb_cookie", "lb_cookie"),
        "target_group_health.dns_failover.minimum_healthy_targets.count": ("1", ANY),
        "target_group_health.dns_failover.minimum_healthy_targets.percentage": ("off", ANY),
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": ("1", ANY),
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": ("off", ANY),
    },
    "Listener": {"routing.http.response.server.enabled": ("true", FLAG)},
    "Rule": {},
}


def read(kind: Kind, document: Document, key: str) -> str:
    """Return the value of an attribute: the one that was set, or AWS's default."""
    return str(document.get("Attributes", {}).get(key, DEFAULTS[kind][key][0]))


def listed(kind: Kind, document: Document) -> list[Document]:
    """Return all attributes as AWS lists them."""
    return [{"Key": key, "Value": read(kind, document, key)} for key in DEFAULTS[kind]]


def change(kind: Kind, document: Document, given: list[Document]) -> None:
    """Set attributes in the document.

    Raises:
        AwsError: one is unknown, or cannot be this.
    """
    for attribute in given:
        key, value = attribute["Key"], attribute.get("Value", "")
        if key not in DEFAULTS[kind]:
            raise AwsError("ValidationError", f"attribute key '{key}' is not recognized")
        allowed = DEFAULTS[kind][key][1]
        if not _allows(allowed, value):
            raise AwsError("ValidationError", f"'{value}' is not valid for '{key}': {allowed}")
        document.setdefault("Attributes", {})[key] = value


def _allows(allowed: str, value: str) -> bool:
    if bounds := re.fullmatch(r"(\d+):(\d+)", allowed):
        return value.isdecimal() and int(bounds[1]) <= int(value) <= int(bounds[2])
    return re.fullmatch(allowed, value) is not None
