"""How a model's tokens are drawn where a request does not say: by the model's `generation_config.json`."""

import json
from pathlib import Path

from pydantic import ValidationError

from byollm.server.errors import ServerError
from byollm.server.parameters import Drawing, describe

FILE = "generation_config.json"  # transformers' name; vLLM reads the same fields of it


def load_defaults(directory: Path) -> Drawing:
    """Read the sampling values in a model directory. `do_sample: false` asks for the most probable token.

    Raises:
        ServerError: the file is damaged, or a value is out of range; names the file and the field.
    """
    path = directory / FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Drawing()
    except (ValueError, OSError) as error:
        raise ServerError(f"{path}: not readable as JSON ({error}); copy the file afresh") from None
    if not isinstance(stored, dict):
        raise ServerError(f"{path}: expected a JSON object; copy the file afresh")
    sampled = stored.get("do_sample")
    if not isinstance(sampled, bool | None):
        raise ServerError(f"{path}: do_sample is {describe(sampled)}; expected true or false")
    given = {name: stored[name] for name in Drawing.model_fields if name in stored}
    if sampled is False:
        given["temperature"] = 0
    try:
        return Drawing.model_validate(given)
    except ValidationError as refused:
        fault = refused.errors(include_url=False)[0]
        name, problem = fault["loc"][0], fault["msg"]
        raise ServerError(
            f"{path}: {name} is {describe(fault['input'])}: {problem}. Correct it there, or take it out"
        ) from None
