"""What is declared of load balancers: AWS's own shapes by ARN, in memory for the listeners and on disk."""

from typing import Any, Literal

from byollm.local.protocol import AwsError
from byollm.local.store import Store

Document = dict[str, Any]
Kind = Literal["LoadBalancer", "TargetGroup", "Listener", "Rule"]
KINDS: tuple[Kind, ...] = ("LoadBalancer", "TargetGroup", "Listener", "Rule")
WORDS = {
    "LoadBalancer": "load balancers",
    "TargetGroup": "target groups",
    "Listener": "listeners",
    "Rule": "rules",
}


class State:
    """Documents in AWS's shapes; beside the shape's own members they hold `Tags`, `Attributes` and the like.

    What is read is the living document: whoever changes it puts it back.

    Args:
        store: where they outlive the process.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._documents: dict[Kind, dict[str, Document]] = {
            kind: {document[f"{kind}Arn"]: document for document in store.list(kind)} for kind in KINDS
        }

    def every(self, kind: Kind, **members: Any) -> list[Document]:
        """Return the documents of a kind whose members are as given, in the order in which they were made."""
        return [
            document
            for document in self._documents[kind].values()
            if all(document.get(name) == value for name, value in members.items())
        ]

    def find(self, kind: Kind, arn: str) -> Document:
        """Return one document.

        Raises:
            AwsError: there is none.
        """
        try:
            return self._documents[kind][arn]
        except KeyError:
            raise AwsError(f"{kind}NotFound", f"One or more {WORDS[kind]} not found: {arn}") from None

    def put(self, kind: Kind, document: Document) -> None:
        """Keep a document, new or changed."""
        arn = document[f"{kind}Arn"]
        self._documents[kind][arn] = document
        self._store.put(kind, arn, document)

    def delete(self, kind: Kind, arn: str) -> None:
        """Forget a document, if it is there."""
        self._documents[kind].pop(arn, None)
        self._store.delete(kind, arn)

    def select(self, kind: Kind, arns: list[str] | None, names: list[str] | None = None) -> list[Document]:
        """Return the documents of these ARNs or names, all where neither is given.

        Raises:
            AwsError: one of them is not there.
        """
        if arns is not None:
            return [self.find(kind, arn) for arn in arns]
        if names is None:
            return self.every(kind)
        found = {document[f"{kind}Name"]: document for document in self.every(kind)}
        if missing := [name for name in names if name not in found]:
            raise AwsError(f"{kind}NotFound", f"One or more {WORDS[kind]} not found: {', '.join(missing)}")
        return [found[name] for name in names]

    def owner_of(self, arn: str) -> tuple[Kind, Document]:
        """Return what an ARN of any kind stands for.

        Raises:
            AwsError: nothing.
        """
        kinds: dict[str, Kind] = {
            "loadbalancer": "LoadBalancer",
            "targetgroup": "TargetGroup",
            "listener": "Listener",
            "listener-rule": "Rule",
        }
        kind = kinds.get(arn.rpartition(":")[2].partition("/")[0])
        if kind is None:
            raise AwsError("ValidationError", f"'{arn}' is not a valid load balancer ARN")
        return kind, self.find(kind, arn)

    def groups_of(self, actions: list[Document]) -> list[str]:
        """Return the ARNs of the target groups that actions forward to."""
        return [
            group["TargetGroupArn"]
            for action in actions
            if action["Type"] == "forward"
            for group in action["ForwardConfig"]["TargetGroups"]
        ]

    def balancers_of(self, group: str) -> list[str]:
        """Return the ARNs of the load balancers that forward to a target group."""
        listeners = {
            rule["ListenerArn"] for rule in self.every("Rule") if group in self.groups_of(rule["Actions"])
        }
        return sorted({self.find("Listener", listener)["LoadBalancerArn"] for listener in listeners})

    def close(self) -> None:
        """Give the file back."""
        self._store.close()
