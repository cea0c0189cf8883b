"""Which rule of a listener a request meets, and what a redirect makes of its address."""

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import parse_qsl

from byollm.local.balancer.state import Document


@dataclass(frozen=True)
class Asked:
    """What of a request the rules look at.

    Args:
        host: of the request, without the port.
        path: as it came, still encoded.
        headers: by their names in lower case.
    """

    method: str
    scheme: str
    host: str
    port: int
    path: str
    query: str
    headers: dict[str, str]
    client: str


def choose(rules: list[Document], asked: Asked) -> Document:
    """Return the first rule by priority whose conditions all hold; the default rule holds always."""
    ordered = sorted(rules, key=lambda rule: (rule["IsDefault"], priority(rule)))
    return next(rule for rule in ordered if all(_holds(condition, asked) for condition in rule["Conditions"]))


def priority(rule: Document) -> int:
    """Return the number of a rule's priority; the default rule has none, and comes last."""
    return 0 if rule["IsDefault"] else int(rule["Priority"])


def check(condition: Document) -> None:
    """Look whether a condition can be asked of requests.

    Raises:
        ValueError: it cannot; says why.
    """
    try:
        values = values_of(condition)
    except KeyError:
        raise ValueError(f"Condition field '{condition.get('Field')}' is not valid") from None
    if condition.get("RegexValues") or not values:
        raise ValueError(f"A '{condition['Field']}' condition must have values, and no regexes")
    if condition["Field"] == "source-ip":
        for value in values:
            ip_network(value)


def values_of(condition: Document) -> list[Any]:
    """Return the values of a condition, wherever its kind keeps them."""
    member = {
        "host-header": "HostHeaderConfig",
        "http-header": "HttpHeaderConfig",
        "http-request-method": "HttpRequestMethodConfig",
        "path-pattern": "PathPatternConfig",
        "query-string": "QueryStringConfig",
        "source-ip": "SourceIpConfig",
    }[condition["Field"]]
    return list(condition.get(member, {}).get("Values") or condition.get("Values") or [])


def _holds(condition: Document, asked: Asked) -> bool:
    values = values_of(condition)
    match condition["Field"]:
        case "host-header":
            return any(_like(value.lower(), asked.host.lower()) for value in values)
        case "path-pattern":
            return any(_like(value, asked.path) for value in values)
        case "http-header":
            header = asked.headers.get(condition["HttpHeaderConfig"]["HttpHeaderName"].lower())
            return header is not None and any(_like(value.lower(), header.lower()) for value in values)
        case "http-request-method":
            return asked.method in values
        case "source-ip":
            return any(ip_address(asked.client) in ip_network(value) for value in values)
        case _:
            pairs = parse_qsl(asked.query, keep_blank_values=True)
            return any(
                _like(value["Value"].lower(), found.lower())
                and ("Key" not in value or value["Key"].lower() == key.lower())
                for value in values
                for key, found in pairs
            )


def _like(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.S) is not None


def location(redirect: Document, asked: Asked, real_ports: dict[str, int]) -> str:
    """Return where a redirect leads.

    Args:
        real_ports: where the balancer's own listeners are on this machine, by their ports on AWS.
    """
    now = {
        "protocol": asked.scheme.upper(),
        "host": asked.host,
        "port": str(asked.port),
        "path": asked.path.lstrip("/"),
        "query": asked.query,
    }

    def fill(member: str, default: str) -> str:
        return re.sub(r"#\{(\w+)\}", lambda part: now.get(part[1], part[0]), redirect.get(member, default))

    scheme, port = fill("Protocol", "#{protocol}").lower(), fill("Port", "#{port}")
    host, query = fill("Host", "#{host}"), fill("Query", "#{query}")
    real = real_ports.get(port, port) if host == asked.host else port
    usual = {"http": "80", "https": "443"}[scheme] == str(real)
    authority = host if usual else f"{host}:{real}"
    return f"{scheme}://{authority}{fill('Path', '/#{path}')}{'?' if query else ''}{query}"
