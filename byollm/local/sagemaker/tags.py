"""Tags of every resource that has an ARN."""

from collections.abc import Iterable

from byollm.local.protocol import AwsError, Members
from byollm.local.store import Store

TAGS = 50


class Tags:
    """AddTags, ListTags and DeleteTags; other parts say when a resource begins and ends."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, arn: str, tags: Iterable[Members]) -> None:
        """Know a resource and its first tags."""
        self._store.put("Tags", arn, {tag["Key"]: tag["Value"] for tag in tags})

    def end(self, arn: str) -> None:
        """Forget a resource."""
        self._store.delete("Tags", arn)

    async def add_tags(self, given: Members) -> Members:
        """AddTags."""
        tags = self._of(given["ResourceArn"])
        tags |= {tag["Key"]: tag["Value"] for tag in given["Tags"]}
        if len(tags) > TAGS:
            raise AwsError("ResourceLimitExceeded", f"A resource may have {TAGS} tags at most.")
        self._store.put("Tags", given["ResourceArn"], tags)
        return {"Tags": _listed(tags)}

    async def list_tags(self, given: Members) -> Members:
        """ListTags; there are never more than one page of them."""
        return {"Tags": _listed(self._of(given["ResourceArn"]))}

    async def delete_tags(self, given: Members) -> None:
        """DeleteTags."""
        tags = self._of(given["ResourceArn"])
        kept = {key: value for key, value in tags.items() if key not in given["TagKeys"]}
        self._store.put("Tags", given["ResourceArn"], kept)

    def _of(self, arn: str) -> dict[str, str]:
        tags = self._store.get("Tags", arn)
        if tags is None:
            raise AwsError("ValidationException", f'Could not find resource "{arn}".')
        return tags


def _listed(tags: dict[str, str]) -> list[Members]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
