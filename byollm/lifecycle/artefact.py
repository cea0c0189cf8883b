"""What an endpoint serves: an image and the weights it loads, both named by their content."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError

from byollm.lifecycle.errors import LifecycleError
from byollm.settings.base import Section, explain


def digest(content: Any) -> str:
    """Return twelve hexadecimal digits that stand for `content`, which JSON can write."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Artefact(Section):
    """One version of the model, ready to be served."""

    image: Annotated[str, Field(pattern=r"^\S{1,180}@sha256:[0-9a-f]{64}$")]
    """The inference image, pinned by its digest: what was tried is what is deployed."""
    model: Annotated[str, Field(pattern=r"^s3://[^/\s]+/\S{1,900}/$")]
    """The prefix that the model's files lie under, ending in a slash."""

    @classmethod
    def of(cls, image: str, model: str) -> Self:
        """Return what these name.

        Raises:
            LifecycleError: the image is not pinned by its digest, or the model is no prefix in S3.
        """
        try:
            return cls(image=image, model=model)
        except ValidationError as error:
            raise LifecycleError(
                f"expected an image such as <repository>@sha256:<digest> and a model such as "
                f"s3://<bucket>/versions/<content>/:\n{explain(error, cls)}"
            ) from None


Artefacts = Mapping[str, Artefact]
"""What each variant serves, by the variant's name."""
