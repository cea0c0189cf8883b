"""Where a model is read from, as people name it: a directory, S3, a name on Hugging Face's Hub."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from byollm.settings.errors import ByollmError

if TYPE_CHECKING:
    from byollm.aws import S3Folder
    from byollm.modeling.packing.source import Source
    from byollm.settings import Settings

S3 = "s3://"
HUB_NAME = r"[\w.-]+(/[\w.-]+)?"
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "SHA256SUMS"]


class SourceError(ByollmError):
    """A model cannot be had."""


def open_source(given: str, settings: "Settings") -> "Source":
    """Return the model that was named; one of the Hub is downloaded into its cache first.

    Raises:
        SourceError: there is none, or it cannot be had.
        AwsError: it is no address in S3.
    """
    from byollm.modeling.packing.source import DirectorySource

    if given.startswith(S3):
        return s3_folder(given, settings)
    if Path(given).is_dir():
        return DirectorySource(Path(given))
    return DirectorySource(model_directory(given), given)


def model_directory(given: str) -> Path:
    """Return the directory of a model; one of the Hub is downloaded into its cache first.

    Raises:
        SourceError: there is none, or it cannot be had.
    """
    if Path(given).is_dir():
        return Path(given)
    if Path(given).exists() or not re.fullmatch(HUB_NAME, given):
        raise SourceError(
            f"{given}: no such directory; name that of a model, or a model of Hugging Face's Hub such as "
            "stabilityai/stablelm-3b-4e1t; to quantise or inspect one, s3://bucket/prefix will do too"
        )
    return _from_hub(given)


def s3_folder(address: str, settings: "Settings") -> "S3Folder":
    """Return a prefix in S3.

    Raises:
        SourceError: boto3 is not installed.
        AwsError: it is no address in S3.
    """
    try:
        from byollm.aws import Clients, S3Folder
    except ImportError as error:
        raise SourceError(f"{address}: S3 needs boto3 ({error}): pip install 'byollm[aws]'") from None
    return S3Folder(Clients.of(settings.aws), address)


def _from_hub(name: str) -> Path:
    neither = f"{name}: no such directory here, and from Hugging Face's Hub it cannot be had"
    try:
        from huggingface_hub import errors as hub
        from huggingface_hub import snapshot_download
    except ImportError:
        raise SourceError(f"{neither} without its client: pip install huggingface_hub") from None
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except hub.GatedRepoError:
        raise SourceError(
            f"{neither}: it is gated. Accept the terms at https://huggingface.co/{name}; then `hf auth "
            "login` or set HF_TOKEN to a token that may read it"
        ) from None
    except hub.RepositoryNotFoundError:
        raise SourceError(
            f"{neither}: there is none of this name, or it is private. Check the name; for a private one "
            "`hf auth login` or set HF_TOKEN"
        ) from None
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled):
        raise SourceError(
            f"{neither}: the Hub cannot be reached, or HF_HUB_OFFLINE is set. Check the network, or copy the "
            "model here by other means and name its directory"
        ) from None
    except (hub.HfHubHTTPError, hub.HFValidationError, OSError) as error:
        raise SourceError(
            f"{neither} ({error}). Try again, or copy the model here by other means and name its directory"
        ) from None
