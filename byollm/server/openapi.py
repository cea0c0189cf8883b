"""Describes request bodies in `/openapi.json`; the routes read and check them by themselves."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from byollm.server.parameters import Parameters


def describe_bodies(
    app: FastAPI, bodies: Mapping[str, tuple[type[Parameters], ...]], model_name: str
) -> None:
    """Make the schema tell the body of each of the POST routes `bodies`, or the bodies that it takes.

    The only value of `model` is the name of the model that is served.
    """

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = get_openapi(title=app.title, version=app.version, routes=app.routes)
            references, definitions = models_json_schema(
                [(body, "validation") for body in dict.fromkeys(chain.from_iterable(bodies.values()))],
                ref_template="#/components/schemas/{model}",
            )
            described.setdefault("components", {})["schemas"] = definitions["$defs"]
            for definition in definitions["$defs"].values():
                if "model" in (properties := definition.get("properties", {})):
                    properties["model"] = {"type": "string", "enum": [model_name]}
            for path, taken in bodies.items():
                choices = [references[body, "validation"] for body in taken]
                content = {"application/json": {"schema": {"anyOf": choices} if choices[1:] else choices[0]}}
                route = described["paths"][path.replace(":path}", "}")]
                route["post"]["requestBody"] = {"required": True, "content": content}
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]
