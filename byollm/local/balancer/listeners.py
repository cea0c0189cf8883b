"""The operations on listeners and their rules."""

import secrets
from collections.abc import Awaitable, Callable

from byollm.local.balancer.actions import checked
from byollm.local.balancer.rules import check, priority
from byollm.local.balancer.state import Document, State
from byollm.local.protocol import AwsError, Members
from byollm.local.world import World

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
        actions = checked(self._state, given["Protocol"], given["DefaultActions"])
        document = {
            "ListenerArn": self._world.arn("elasticloadbalancing", f"listener/{path}/{secrets.token_hex(8)}"),
            "LoadBalancerArn": balancer["LoadBalancerArn"],
            "Port": port,
            **self._security(given),
            "DefaultActions": actions,
            "Tags": given.get("Tags", []),
            "LocalPort": self._next_port() if own in taken else own,
        }
        self._state.put("Listener", document)
        self._put_rule(document, actions, [], None, [])
        await self._serve(document)
        return {"Listeners": [document]}

    def _security(self, given: Members, before: Document | None = None) -> Document:
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
        for certificate in certificates:
            if not certificate.get("CertificateArn", "").startswith("arn:aws:acm:"):
                raise AwsError("CertificateNotFound", f"{certificate} is not a certificate of ACM")
        return {
            "Protocol": protocol,
            "Certificates": certificates,
            "SslPolicy": asked.get("SslPolicy", SSL_POLICY),
        }

    async def describe_listeners(self, given: Members) -> Members:
        """List listeners."""
        if "LoadBalancerArn" in given:
            arn = self._state.find("LoadBalancer", given["LoadBalancerArn"])["LoadBalancerArn"]
            return {"Listeners": self._state.every("Listener", LoadBalancerArn=arn)}
        return {"Listeners": self._state.select("Listener", given.get("ListenerArns"))}

    async def modify_listener(self, given: Members) -> Members:
        """Change a listener; its rules count from the next request on."""
        document = self._state.find("Listener", given["ListenerArn"])
        changed = {**document, **self._security(given, document)}
        changed["Port"] = given.get("Port", document["Port"])
        if changed["Protocol"] == "HTTP":
            changed = {name: changed[name] for name in changed if name not in {"Certificates", "SslPolicy"}}
        if "DefaultActions" in given:
            changed["DefaultActions"] = checked(self._state, changed["Protocol"], given["DefaultActions"])
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
        conditions, actions = (
            _conditions(given["Conditions"]),
            checked(self._state, listener["Protocol"], given["Actions"]),
        )
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
            listener = self._state.find("Listener", rule["ListenerArn"])
            rule["Actions"] = checked(self._state, listener["Protocol"], given["Actions"])
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


def _conditions(given: list[Document]) -> list[Document]:
    for condition in given:
        try:
            check(condition)
        except ValueError as error:
            raise AwsError("ValidationError", str(error)) from None
    return given
