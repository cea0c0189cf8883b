"""What a rule does with a request: its actions as AWS shows them, checked."""

import re
from typing import Any

from byollm.local.balancer.state import Document, State
from byollm.local.protocol import AwsError

# Kept and shown, and asked of nobody: whoever reaches this machine's listeners sits at it.
LOGINS = frozenset({"authenticate-cognito", "authenticate-oidc", "jwt-validation"})
# the member that says more, which status it may have, and which protocols
ANSWERS = {
    "redirect": ("RedirectConfig", "HTTP_30[12]", ("HTTP", "HTTPS", "#{protocol}")),
    "fixed-response": ("FixedResponseConfig", r"[245]\d\d", ("HTTP",)),
}


def checked(state: State, protocol: str, given: list[Document]) -> list[Document]:
    """Return actions in their order, the one that answers last.

    Args:
        protocol: of the listener.

    Raises:
        AwsError: one of them cannot be, or leads nowhere.
    """
    if not given:
        raise _refused("a rule must have an action")
    *logins, last = sorted(given, key=lambda action: int(action.get("Order", 1)))
    for action in logins:
        if action["Type"] not in LOGINS:
            raise _refused(f"{action['Type']} must be the last action")
        if protocol != "HTTPS":
            raise _refused(f"{action['Type']} is for HTTPS listeners only")
    if last["Type"] == "forward":
        return [*logins, _forward(state, last)]
    if last["Type"] not in ANSWERS:
        raise _refused(f"the last action must be forward, redirect or fixed-response, not {last['Type']}")
    member, pattern, protocols = ANSWERS[last["Type"]]
    config = last.get(member, {})
    if not re.fullmatch(pattern, config.get("StatusCode", "")):
        raise _refused(f"a {last['Type']} action needs a {member} with a StatusCode")
    if config.get("Protocol", "HTTP") not in protocols:
        raise _refused(f"the Protocol of a redirect is one of {', '.join(protocols)}")
    return [*logins, last]


def _forward(state: State, action: Document) -> Document:
    config: dict[str, Any] = action.get("ForwardConfig") or {}
    only = {"TargetGroupArn": action.get("TargetGroupArn", ""), "Weight": 1}
    groups = config.get("TargetGroups") or [only]
    for group in groups:
        state.find("TargetGroup", group["TargetGroupArn"])
    if config.get("TargetGroupStickinessConfig", {}).get("Enabled"):
        raise _refused("stickiness between target groups is not emulated")
    config = {"TargetGroups": groups, "TargetGroupStickinessConfig": {"Enabled": False}}
    one = {"TargetGroupArn": groups[0]["TargetGroupArn"]} if len(groups) == 1 else {}
    return {**action, "ForwardConfig": config, **one}


def _refused(why: str) -> AwsError:
    return AwsError("InvalidLoadBalancerAction", why)
