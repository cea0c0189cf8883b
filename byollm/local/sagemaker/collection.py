"""Resources of one kind: created once, described, listed page by page, tagged, deleted."""

import re
from collections.abc import Sequence

from botocore.utils import parse_timestamp

from byollm.local.paging import page
from byollm.local.protocol import AwsError, Members
from byollm.local.sagemaker.tags import Tags
from byollm.local.store import Document, Store
from byollm.local.world import World

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
PAGE = 10  # what AWS lists where MaxResults is not given


class Collection:
    """The resources of one kind, as documents whose members have the names of the kind.

    Args:
        kind: as members are called after it: `Endpoint` has an `EndpointName` and an `EndpointArn`.
        path: what its ARNs begin with, such as `endpoint-config`.
        words: what AWS's errors call it, such as `endpoint configuration`.
    """

    def __init__(self, world: World, store: Store, tags: Tags, kind: str, path: str, words: str) -> None:
        self._world, self._store, self._tags = world, store, tags
        self._kind, self._path, self._words = kind, path, words
        self._name, self._arn, self._status = f"{kind}Name", f"{kind}Arn", f"{kind}Status"

    def arn(self, name: str) -> str:
        """Return the ARN of the resource of that name."""
        return self._world.arn("sagemaker", f"{self._path}/{name.lower()}")

    def add(self, given: Members, **more: object) -> Document:
        """Keep a new resource: the members given, its ARN and times, and `more`; its tags beside it.

        Raises:
            AwsError: its name is taken, or none that AWS would allow.
        """
        name = given[self._name]
        if not NAME.fullmatch(name):
            member = self._name[0].lower() + self._name[1:]
            raise AwsError(
                "ValidationException",
                f"1 validation error detected: Value '{name}' at '{member}' failed to satisfy constraint: "
                f"Member must satisfy regular expression pattern: {NAME.pattern}",
            )
        if self.find(name) is not None:
            raise AwsError(
                "ValidationException", f'Cannot create already existing {self._words} "{self.arn(name)}".'
            )
        now = self._world.clock.now()
        document = {key: value for key, value in given.items() if key != "Tags"}
        document |= {self._arn: self.arn(name), "CreationTime": now, "LastModifiedTime": now, **more}
        self._tags.begin(self.arn(name), given.get("Tags", ()))
        self._store.put(self._kind, name, document)
        return document

    def find(self, name: str) -> Document | None:
        """Return the resource, or None."""
        return self._store.get(self._kind, name)

    def get(self, name: str) -> Document:
        """Return the resource.

        Raises:
            AwsError: there is none.
        """
        found = self.find(name)
        if found is None:
            raise AwsError("ValidationException", f'Could not find {self._words} "{self.arn(name)}".')
        return found

    def put(self, document: Document) -> None:
        """Keep a changed resource, and when it was changed."""
        document["LastModifiedTime"] = self._world.clock.now()
        self._store.put(self._kind, document[self._name], document)

    def remove(self, name: str) -> None:
        """Forget a resource and its tags.

        Raises:
            AwsError: there is none.
        """
        self.get(name)
        self._store.delete(self._kind, name)
        self._tags.end(self.arn(name))

    def all(self) -> list[Document]:
        """Return every resource, by name."""
        return list(self._store.list(self._kind))

    def page(
        self, given: Members, members: Sequence[str], *, equal: Sequence[str] = (), plural: str | None = None
    ) -> Members:
        """Answer a List operation: filtered, sorted, cut to a page of `members`.

        Args:
            given: the operation's input.
            members: what a summary holds beside name, ARN and creation time.
            equal: members for which the input may have a filter `<member>Equals`.
            plural: the member of the answer; by default the kind with an s.
        """
        found = [document for document in self.all() if self._matches(document, given, equal)]
        by = {"Name": self._name, "Status": self._status}.get(given.get("SortBy", ""), "CreationTime")
        found.sort(key=lambda document: document[by], reverse=given.get("SortOrder") != "Ascending")
        shown, following = page(found, {"MaxResults": PAGE, **given})
        names = (self._name, self._arn, "CreationTime", *members)
        return {
            plural or f"{self._kind}s": [
                {member: document[member] for member in names if member in document} for document in shown
            ],
            **following,
        }

    def _matches(self, document: Document, given: Members, equal: Sequence[str]) -> bool:
        for member in ("CreationTime", "LastModifiedTime"):
            before, after = given.get(f"{member}Before"), given.get(f"{member}After")
            if before is not None and document[member] >= parse_timestamp(before).timestamp():
                return False
            if after is not None and document[member] <= parse_timestamp(after).timestamp():
                return False
        if "StatusEquals" in given and document[self._status] != given["StatusEquals"]:
            return False
        if any(
            f"{member}Equals" in given and document[member] != given[f"{member}Equals"] for member in equal
        ):
            return False
        return given.get("NameContains", "").lower() in document[self._name].lower()
