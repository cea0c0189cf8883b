"""Corpora and conversations in, validated and packed tokens out."""

from typing import TYPE_CHECKING, Any

from byollm.data.errors import DataError

if TYPE_CHECKING:
    from byollm.data.chat import ConversationDataset
    from byollm.data.tokens import TokenDataset

__all__ = ["ConversationDataset", "DataError", "TokenDataset"]


def __getattr__(name: str) -> Any:
    # the datasets need torch, which preparing data does not
    if name == "TokenDataset":
        from byollm.data.tokens import TokenDataset

        return TokenDataset
    if name == "ConversationDataset":
        from byollm.data.chat import ConversationDataset

        return ConversationDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
