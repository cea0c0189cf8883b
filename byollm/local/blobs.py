"""The layers and configurations of images: files by their digests, gone when no image has them any more."""

from collections.abc import Iterable
from pathlib import Path


class Blobs:
    """What the images of all repositories are made of; what two have is there once.

    Args:
        folder: where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._promised = set[tuple[str, str]]()  # repository and digest: of images that are being pushed

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(self._folder.iterdir())

    def path(self, digest: str) -> Path:
        """Return where the blob of a digest is, if it is there."""
        return self._folder / digest.removeprefix("sha256:")

    def promise(self, repository: str, digest: str) -> None:
        """Let a blob stay until an image of `repository` has it."""
        self._promised.add((repository, digest))

    def keep_promise(self, repository: str, digests: Iterable[str]) -> None:
        """Let blobs be, which an image of `repository` has now."""
        self._promised.difference_update((repository, digest) for digest in digests)

    def promised(self) -> frozenset[tuple[str, str]]:
        """Return the repositories and digests of all promises."""
        return frozenset(self._promised)

    def sweep(self, had: Iterable[str], forgotten: Iterable[tuple[str, str]]) -> None:
        """Remove what no image has, nor one that is being pushed.

        Args:
            had: the digests that images name.
            forgotten: promises that need not be kept, as their repositories are gone.
        """
        self._promised.difference_update(forgotten)
        kept = {self.path(digest).name for digest in (*had, *(digest for _, digest in self._promised))}
        for blob in self._folder.iterdir():
            if blob.name not in kept:
                blob.unlink()
