"""SageMaker's runtime API without boto3's threads: signed calls over one pool of connections."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import botocore.session
import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from byollm.aws import explain
from byollm.gateway.errors import GatewayError, broken, refusal, too_late, unavailable
from byollm.gateway.events import payloads, whole_events
from byollm.settings import AwsSettings, GatewaySettings, Settings

log = logging.getLogger(__name__)

CONNECT_S = 5.0
LISTING_S = 2.0  # a page that asks for the models waits for 3
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


@dataclass(frozen=True)
class Target:
    """What answers: an endpoint, and the component behind it where it has any."""

    endpoint: str
    component: str | None = None


def target_of(env: str, settings: Settings) -> Target:
    """Return the target that the settings name; by default the environment's own, as it is deployed."""
    named = settings.gateway
    if named.endpoint is not None:
        return Target(named.endpoint, named.component)
    own = f"byollm-{env}"
    component = f"{own}-main" if settings.endpoint.hosting == "component" else None
    return Target(own, named.component or component)


class Runtime:
    """Calls one endpoint. Use it within one event loop.

    Args:
        target: what is called.
        settings: how long an answer may take, and how many there are at a time.
        aws: region, and the address of an emulated AWS.

    Raises:
        GatewayError: there are no credentials to sign with.
    """

    def __init__(self, target: Target, settings: GatewaySettings, aws: AwsSettings) -> None:
        self.may_sleep = target.component is not None  # only what hosts components scales to zero
        self._target, self._settings = target, settings
        session = botocore.session.get_session()
        try:
            # Of the client only the address is used, which it resolves as every AWS program does.
            client = session.create_client(
                "sagemaker-runtime", region_name=aws.region, endpoint_url=aws.endpoint_url
            )
            credentials = session.get_credentials()
        except BotoCoreError as error:
            raise GatewayError(str(explain(error))) from None
        if credentials is None:
            raise GatewayError(
                "no AWS credentials: sign in (`aws sso login`), or give the task a role that may invoke "
                f"the endpoint {target.endpoint}"
            )
        self._credentials, self._region = credentials, aws.region
        self._address = f"{client.meta.endpoint_url.rstrip('/')}/endpoints/{target.endpoint}"
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(settings.silence_s, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=settings.max_requests, max_keepalive_connections=64),
        )

    async def invoke(self, body: bytes, request_id: str) -> bytes:
        """Return the whole answer to `body`.

        Raises:
            ApiError: there is none, and why.
        """
        return await self._whole(body, {}, request_id, self._settings.request_timeout_s)

    async def models(self, request_id: str) -> bytes:
        """Return what the containers answer to `GET /v1/models`.

        SageMaker passes on nothing but invocations. A route among the custom attributes is how AWS's own
        containers of vLLM are told of another: https://github.com/aws/deep-learning-containers

        Raises:
            ApiError: they do not say, and why.
        """
        return await self._whole(b"{}", {CUSTOM_ATTRIBUTES: "route=/v1/models"}, request_id, LISTING_S)

    async def _whole(self, body: bytes, headers: dict[str, str], request_id: str, patience: float) -> bytes:
        headers |= {"accept": "application/json"}
        try:
            async with asyncio.timeout(patience):
                async with self._call("invocations", body, headers, request_id) as response:
                    return await response.aread()
        except (TimeoutError, httpx.ReadTimeout):
            raise too_late(patience) from None
        except httpx.HTTPError as error:
            log.warning("SageMaker broke off", extra={"fault": type(error).__name__})
            raise unavailable() from None

    async def stream(self, body: bytes, request_id: str) -> AsyncGenerator[bytes]:
        """Yield the server-sent events of the answer to `body`. Closing the iterator closes the call.

        Raises:
            ApiError: there is no answer, or it broke off; what was yielded before stays true.
        """
        headers = {"x-amzn-sagemaker-accept": "text/event-stream"}
        try:
            async with self._call("invocations-response-stream", body, headers, request_id) as response:
                async for events in whole_events(payloads(response.aiter_raw())):
                    yield events
        except httpx.HTTPError as error:
            raise broken(type(error).__name__) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def _call(
        self, operation: str, body: bytes, headers: dict[str, str], request_id: str
    ) -> AsyncIterator[httpx.Response]:
        """Open the answer to a call; what SageMaker refuses is raised."""
        headers |= {"content-type": "application/json", "x-amzn-sagemaker-inference-id": request_id}
        if self._target.component:
            headers["x-amzn-sagemaker-inference-component"] = self._target.component
        # A thread: credentials may have to be renewed, and a large body is hashed.
        try:
            request = await asyncio.to_thread(self._signed, f"{self._address}/{operation}", body, headers)
            response = await self._http.send(request, stream=True)
        except BotoCoreError as error:
            log.error("there are no credentials to sign with", extra={"fault": str(error)})
            raise unavailable() from None
        except httpx.ReadTimeout:
            raise too_late(self._settings.silence_s) from None
        except httpx.HTTPError as error:
            log.warning("SageMaker cannot be reached", extra={"fault": type(error).__name__})
            raise unavailable() from None
        try:
            if response.status_code != httpx.codes.OK:
                raise refusal(response.status_code, response.headers, await response.aread())
            yield response
        finally:
            await response.aclose()

    def _signed(self, url: str, body: bytes, headers: dict[str, str]) -> httpx.Request:
        """Sign a call, as https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html says."""
        request = AWSRequest("POST", url, data=body, headers=headers)
        credentials = self._credentials.get_frozen_credentials()
        SigV4Auth(credentials, "sagemaker", self._region).add_auth(request)
        return self._http.build_request("POST", url, content=body, headers=dict(request.headers))
