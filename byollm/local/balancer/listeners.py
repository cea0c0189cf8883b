"""The operations on listeners and their rules."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from botocore.exceptions import ClientError

from byollm.local.balancer.rules import check, priority
from byollm.local.balancer.state import Document, State
from byollm.local.protocol import AwsError, Members
from byollm.local.world import World

# the member that says more, which status it may have, and which protocols
ACTIONS = {
    "redirect": ("RedirectConfig", "HTTP_30[12]", ("HTTP", "HTTPS", "#{protocol}")),
    "fixed-response": ("FixedResponseConfig", r"[245]\d\d", ("HTTP",)),
}
SSL_POLICY = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"
MAX_RULES = 100


class ListenerOperations:
    """CreateListener, CreateRule and their neighbours.

    Args:
        state: what is declared.
        serve: begins to serve a listener.
        remove: ends a listener and forgets it.
        next_port: gives a free port of this machine.
    """

    def __init__(
        self,
        world: World,
        state: State,
        serve: Callable[[Document], Awaitable[None]],
        remove: Callable[[str], Awaitable[None]],
        next_port: Callable[[], int],
    ) -> None:
        self._world, self._state = world, state
        self._serve, self._remove, self._next_port = serve, remove, next_port

    async def create_listener(self, given: Members) -> Members:
        """Declare a listener; it answers when this returns."""
        balancer = self._state.find("LoadBalancer", given["LoadBalancerArn"])
        siblings = self._state.every("Listener", LoadBalancerArn=balancer["LoadBalancerArn"])
        port = given.get("Port")
        if port is None or "Protocol" not in given:
            raise AwsError("ValidationError", "A listener must have a port and a protocol")
        if any(sibling["Port"] == port for sibling in siblings):
            raise AwsError(
                "DuplicateListener", f"A listener already exists on port {port} for this load balancer"
            )
        taken = {sibling["LocalPort"] for sibling in siblings}
        own = balancer["LocalPort"]
        path = balancer["LoadBalancerArn"].partition(":loadbalancer/")[2]
        actions = self._actions(given["DefaultActions"])
        document = {
            "ListenerArn": self._world.arn("elasticloadbalancing", f"listener/{path}/{secrets.token_hex(8)}"),
            "LoadBalancerArn": balancer["LoadBalancerArn"],
            "Port": port,
            **await self._security(given),
            "DefaultActions": actions,
            "Tags": given.get("Tags", []),
            "LocalPort": self._next_port() if own in taken else own,
        }
        self._state.put("Listener", document)
        self._put_rule(document, actions, [], None, [])
        await self._serve(document)
        return {"Listeners": [document]}

    async def _security(self, given: Members, before: Document | None = None) -> Document:
        """Return protocol and certificates, checked against each other."""
        asked = {**(before or {}), **given}
        protocol, certificates = asked["Protocol"], asked.get("Certificates", [])
        if protocol == "HTTP":
            if given.get("Certificates"):
                raise AwsError("ValidationError", "A certificate cannot be specified for HTTP listeners")
            return {"Protocol": protocol}
        if protocol != "HTTPS":
            raise AwsError("UnsupportedProtocol", f"an application load balancer does not speak {protocol}")
        if not certificates:
            raise AwsError("ValidationError", "A certificate must be specified for HTTPS listeners")
        await asyncio.to_thread(self._check_certificates, certificates)
        return {
            "Protocol": protocol,
            "Certificates": certificates,
            "SslPolicy": asked.get("SslPolicy", SSL_POLICY),
        }

    def _check_certificates(self, certificates: list[Document]) -> None:
        for certificate in certificates:
            arn = certificate["CertificateArn"]
            try:
                self._world.client("acm").describe_certificate(CertificateArn=arn)
            except ClientError as error:
                raise AwsError(
                    "CertificateNotFound",
                    f"Certificate '{arn}' not found: {error.response['Error']['Message']}",
                ) from None

    async def describe_listeners(self, given: Members) -> Members:
        """List listeners."""
        if "LoadBalancerArn" in given:
            arn = self._state.find("LoadBalancer", given["LoadBalancerArn"])["LoadBalancerArn"]
            return {"Listeners": self._state.every("Listener", LoadBalancerArn=arn)}
        return {"Listeners": self._state.select("Listener", given.get("ListenerArns"))}

    async def modify_listener(self, given: Members) -> Members:
        """Change a listener; its rules count from the next request on."""
        document = self._state.find("Listener", given["ListenerArn"])
        changed = {**document, **await self._security(given, document)}
        changed["Port"] = given.get("Port", document["Port"])
        if changed["Protocol"] == "HTTP":
            changed = {name: changed[name] for name in changed if name not in {"Certificates", "SslPolicy"}}
        if "DefaultActions" in given:
            changed["DefaultActions"] = self._actions(given["DefaultActions"])
            default = self._state.every("Rule", ListenerArn=given["ListenerArn"], IsDefault=True)[0]
            self._state.put("Rule", {**default, "Actions": changed["DefaultActions"]})
        self._state.put("Listener", changed)
        if changed["Protocol"] != document["Protocol"]:
            await self._serve(changed)
        return {"Listeners": [changed]}

    async def delete_listener(self, given: Members) -> Members:
        """Remove a listener and its rules."""
        self._state.find("Listener", given["ListenerArn"])
        await self._remove(given["ListenerArn"])
        return {}

    async def create_rule(self, given: Members) -> Members:
        """Declare a rule; it counts from the next request on."""
        listener = self._state.find("Listener", given["ListenerArn"])
        self._free(listener, {given["Priority"]})
        if len(self._state.every("Rule", ListenerArn=given["ListenerArn"])) > MAX_RULES:
            raise AwsError("TooManyRules", f"a listener has at most {MAX_RULES} rules")
        if given.get("Transforms"):
            raise AwsError("ValidationError", "Transforms of rules are not emulated")
        conditions, actions = _conditions(given["Conditions"]), self._actions(given["Actions"])
        return {
            "Rules": [self._put_rule(listener, actions, conditions, given["Priority"], given.get("Tags", []))]
        }

    def _free(self, listener: Document, wanted: set[int], moving: frozenset[str] = frozenset()) -> None:
        taken = {
            priority(rule)
            for rule in self._state.every("Rule", ListenerArn=listener["ListenerArn"], IsDefault=False)
            if rule["RuleArn"] not in moving
        }
        if taken & wanted:
            raise AwsError("PriorityInUse", f"Priority '{min(taken & wanted)}' is currently in use")

    def _put_rule(
        self,
        listener: Document,
        actions: list[Document],
        conditions: list[Document],
        number: int | None,
        tags: list[Document],
    ) -> Document:
        arn = listener["ListenerArn"].replace(":listener/", ":listener-rule/")
        rule = {
            "RuleArn": f"{arn}/{secrets.token_hex(8)}",
            "ListenerArn": listener["ListenerArn"],
            "Priority": "default" if number is None else str(number),
            "Conditions": conditions,
            "Actions": actions,
            "IsDefault": number is None,
            "Tags": tags,
        }
        self._state.put("Rule", rule)
        return rule

    async def describe_rules(self, given: Members) -> Members:
        """List rules, the default one last."""
        if "ListenerArn" in given:
            arn = self._state.find("Listener", given["ListenerArn"])["ListenerArn"]
            rules = self._state.every("Rule", ListenerArn=arn)
        else:
            rules = self._state.select("Rule", given.get("RuleArns"))
        return {"Rules": sorted(rules, key=lambda rule: (rule["IsDefault"], priority(rule)))}

    async def modify_rule(self, given: Members) -> Members:
        """Change what a rule asks for or does."""
        rule = dict(self._state.find("Rule", given["RuleArn"]))
        self._not_default(rule)
        if "Conditions" in given:
            rule["Conditions"] = _conditions(given["Conditions"])
        if "Actions" in given:
            rule["Actions"] = self._actions(given["Actions"])
        self._state.put("Rule", rule)
        return {"Rules": [rule]}

    async def set_rule_priorities(self, given: Members) -> Members:
        """Put rules in another order."""
        pairs = [
            (dict(self._state.find("Rule", pair["RuleArn"])), pair["Priority"])
            for pair in given["RulePriorities"]
        ]
        moving = frozenset(rule["RuleArn"] for rule, _ in pairs)
        for rule, number in pairs:
            self._not_default(rule)
            self._free(self._state.find("Listener", rule["ListenerArn"]), {number}, moving)
        for rule, number in pairs:
            self._state.put("Rule", {**rule, "Priority": str(number)})
        return {"Rules": [self._state.find("Rule", rule["RuleArn"]) for rule, _ in pairs]}

    async def delete_rule(self, given: Members) -> Members:
        """Remove a rule."""
        self._not_default(self._state.find("Rule", given["RuleArn"]))
        self._state.delete("Rule", given["RuleArn"])
        return {}

    def _not_default(self, rule: Document) -> None:
        if rule["IsDefault"]:
            raise AwsError(
                "OperationNotPermitted", f"Default rule '{rule['RuleArn']}' cannot be modified here"
            )

    def _actions(self, given: list[Document]) -> list[Document]:
        """Return actions as AWS shows them, checked.

        Raises:
            AwsError: one of them is not emulated, or leads nowhere.
        """
        if len(given) != 1:
            raise AwsError("InvalidLoadBalancerAction", "exactly one action is emulated; logins are not")
        action = dict(given[0])
        if action["Type"] == "forward":
            config: dict[str, Any] = dict(action.get("ForwardConfig") or {})
            groups = config.get("TargetGroups") or [
                {"TargetGroupArn": action.get("TargetGroupArn", ""), "Weight": 1}
            ]
            for group in groups:
                self._state.find("TargetGroup", group["TargetGroupArn"])
            if config.get("TargetGroupStickinessConfig", {}).get("Enabled"):
                raise AwsError("ValidationError", "stickiness between target groups is not emulated")
            action["ForwardConfig"] = {
                "TargetGroups": groups,
                "TargetGroupStickinessConfig": {"Enabled": False},
            }
            if len(groups) == 1:
                action["TargetGroupArn"] = groups[0]["TargetGroupArn"]
        elif action["Type"] not in ACTIONS:
            raise AwsError("InvalidLoadBalancerAction", f"actions of type {action['Type']} are not emulated")
        else:
            member, pattern, protocols = ACTIONS[action["Type"]]
            config = action.get(member, {})
            if not re.fullmatch(pattern, config.get("StatusCode", "")):
                raise AwsError("InvalidLoadBalancerAction", f"a {action['Type']} action needs a {member}")
            if config.get("Protocol", "HTTP") not in protocols:
                raise AwsError("InvalidLoadBalancerAction", f"a redirect's Protocol is one of {protocols}")
        return [action]


def _conditions(given: list[Document]) -> list[Document]:
    for condition in given:
        try:
            check(condition)
        except ValueError as error:
            raise AwsError("ValidationError", str(error)) from None
    return given
