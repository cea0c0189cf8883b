"""Describes request bodies in `/openapi.json`; the routes read and check them by themselves."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from byollm.server.parameters import Parameters


def describe_bodies(app: FastAPI, bodies: Mapping[str, type[Parameters]]) -> None:
    """Make the application's schema tell the body of each of the POST routes `bodies`."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = get_openapi(title=app.title, version=app.version, routes=app.routes)
            references, definitions = models_json_schema(
                [(body, "validation") for body in bodies.values()],
                ref_template="#/components/schemas/{model}",
            )
            described.setdefault("components", {})["schemas"] = definitions["$defs"]
            for path, body in bodies.items():
                content = {"application/json": {"schema": references[body, "validation"]}}
                described["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]
