"""Routes beside OpenAI's: plain generation, health, metrics, and what the model is."""

import resource
import time
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response

import byollm
from byollm.server.generate import GenerateFormat, GenerateRequest
from byollm.server.generation import Generation, Job
from byollm.server.model import Model
from byollm.server.prompts import check_fits, encode_prompt
from byollm.server.service import Service
from byollm.web.errors import ApiError
from byollm.web.replies import json_response


class PlainRoutes:
    """The handlers.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def generate(self, request: Request) -> Response:
        """Continue a prompt."""
        asked = GenerateRequest.parse(await self._service.bodies.read(request))

        async def prepare(model: Model) -> Job:
            prompt = await encode_prompt(model, asked.prompt)
            limit = asked.limit(len(prompt))
            if limit is not None and limit < 1:
                message = (
                    f"'max_length' is {asked.max_length}, and the prompt alone has {len(prompt)} tokens."
                )
                raise ApiError(400, message, param="max_length", code="invalid_value")
            check_fits(len(prompt), limit, model.max_context, "prompt")
            params = asked.with_defaults(model.defaults).params(limit)
            return Job([prompt], params, GenerateFormat(self._service.model_name))

        return Generation(self._service, prepare, asked.stream)

    async def ping(self, request: Request) -> Response:
        """Whether requests should be sent here: SageMaker's health check."""
        status = self._service.status
        return json_response({"status": status}, 200 if status == "ready" else 503)

    async def health(self, request: Request) -> Response:
        """The state of server, engine and memory."""
        service = self._service
        stats = service.stats()
        report: dict[str, Any] = {
            "status": service.status,
            "model": service.model_name,
            "model_loaded": stats is not None,
            "uptime_s": round(time.time() - service.created, 3),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        if stats is not None:
            report["peak_memory_bytes"] += stats.peak_memory_bytes
            report |= {
                "device": service.device,
                "requests": {"running": stats.running, "waiting": stats.waiting},
                "cache_blocks": {"free": stats.free_blocks, "total": stats.total_blocks},
            }
        return json_response(report, 200 if service.status == "ready" else 503)

    async def model_info(self, request: Request) -> Response:
        """What the model is, and what it has done so far."""
        model = self._service.model
        info, stats = model.info, model.engine.stats()
        return json_response(
            {
                "model": self._service.model_name,
                "family": info.family,
                "parameters": info.parameters,
                "layers": info.layers,
                "hidden_size": info.hidden_size,
                "vocab_size": info.limits.vocab_size,
                "max_context": model.max_context,
                "dtype": info.dtype,
                "device": info.device,
                "sampling_defaults": model.defaults.model_dump(),
                "version": byollm.__version__,
                "performance": {
                    "prompt_tokens_total": stats.prompt_tokens_total,
                    "generation_tokens_total": stats.generation_tokens_total,
                    "last_step_seconds": stats.last_step_seconds,
                    "preemptions": stats.preemptions,
                },
            }
        )

    async def metrics(self, request: Request) -> Response:
        """Prometheus's text format."""
        return Response(self._service.metrics.exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
