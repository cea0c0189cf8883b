"""What ministack says or does otherwise than AWS, and is relied on here, put right."""

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import cloudwatch, ecr, lambda_svc

from byollm.local.ministack.expressions import install_expressions
from byollm.local.ministack.jobs import install_jobs
from byollm.local.ministack.sessions import share_sessions
from byollm.local.ministack.stack_ends import tell_the_cdk_in_time
from byollm.local.world import World

Answer = tuple[int, dict[str, str], bytes]


def correct(world: World) -> None:
    """Put all of it right."""
    _name_errors_of_functions()
    _miss_images()
    _have_the_registry_here(world)
    _leave_alarms_to_us(world)
    install_expressions()
    install_jobs(world)
    share_sessions(world)
    tell_the_cdk_in_time()


def _name_errors_of_functions() -> None:
    """A function's exception is known by its class: state machines catch it by that name.

    By itself: `Runtime.HandlerError` for all.
    """
    told = '"error": str(e), "trace"'
    script: str = lambda_runtime._PYTHON_WORKER_SCRIPT
    assert told in script
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(told, '"type": type(e).__name__, ' + told)
    last = threading.local()  # one thread carries an invocation from end to end
    invoke: Callable[..., dict[str, Any]] = lambda_runtime.Worker.invoke
    execute: Callable[..., dict[str, Any]] = lambda_svc._execute_function_warm

    def invoke_noting(self: object, *given: object, **named: object) -> dict[str, Any]:
        answer = invoke(self, *given, **named)
        last.kind = answer.get("type")
        return answer

    def execute_naming(*given: object, **named: object) -> dict[str, Any]:
        last.kind = None
        answer = execute(*given, **named)
        if answer.get("error") and last.kind:
            answer["body"]["errorType"] = last.kind
        return answer

    lambda_runtime.Worker.invoke = invoke_noting
    lambda_svc._execute_function_warm = execute_naming


def _miss_images() -> None:
    """An image that is asked for and is not there is an error, by which the CDK knows to push it.

    By itself: an empty list.
    """
    describe: Callable[[dict[str, Any]], Answer] = ecr._describe_images

    def describe_all(data: dict[str, Any]) -> Answer:
        name = data.get("repositoryName", "")
        if name in ecr._repositories:
            for wanted in data.get("imageIds") or []:
                if not ecr._find_image(name, wanted):
                    message = (
                        f"The image with imageId {json.dumps(wanted)} does not exist within the repository"
                    )
                    answer: Answer = ecr.error_response_json("ImageNotFoundException", message, 400)
                    return answer
        return describe(data)

    ecr._describe_images = describe_all


def _have_the_registry_here(world: World) -> None:
    """Repositories are where container engines find them: at this address, see `byollm.local.registry`.

    By itself: at Amazon's.
    """
    ecr._repo_uri = lambda name: f"localhost:{world.port}/{name}"
    token: Callable[[dict[str, Any]], Answer] = ecr._get_authorization_token

    def token_for_here(data: dict[str, Any]) -> Answer:
        status, headers, body = token(data)
        answer = json.loads(body)
        answer["authorizationData"][0]["proxyEndpoint"] = world.address
        return status, headers, json.dumps(answer).encode()

    ecr._get_authorization_token = token_for_here


def _leave_alarms_to_us(world: World) -> None:
    """Alarms keep what they are made of, go by the world's clock, and change their state when we say so.

    By itself: metric mathematics is lost, dimensions and missing data are not looked at, and nothing happens
    between two measurements.
    """
    cloudwatch.time = SimpleNamespace(time=world.clock.now)
    cloudwatch._evaluate_alarm = lambda alarm: None
    put: Callable[..., Any] = cloudwatch._put_metric_alarm
    kept = ("Metrics", "EvaluateLowSampleCountPercentile", "ThresholdMetricId")

    def put_whole(params: Any, data: dict[str, Any], is_cbor: bool, is_json: bool = False) -> Any:
        answer = put(params, data, is_cbor, is_json)
        alarm = cloudwatch._alarms.get(data.get("AlarmName", ""))
        if alarm is not None and answer[0] == 200:
            alarm.update({name: data[name] for name in kept if name in data})
        return answer

    cloudwatch._put_metric_alarm = put_whole
    _find_alarms_by_action()


def _find_alarms_by_action() -> None:
    """Alarms are found by what they act on, as Application Auto Scaling looks for them.

    By itself: `ActionPrefix` is ignored, and every alarm is found.
    """
    describe: Callable[..., Any] = cloudwatch._describe_alarms
    actions = ("AlarmActions", "OKActions", "InsufficientDataActions")

    def describe_found(params: Any, data: dict[str, Any], is_cbor: bool, is_json: bool = False) -> Any:
        prefix = data.get("ActionPrefix")
        if prefix:
            names = [
                alarm["AlarmName"]
                for alarm in (*cloudwatch._alarms.values(), *cloudwatch._composite_alarms.values())
                if any(action.startswith(prefix) for list in actions for action in alarm.get(list) or [])
            ]
            data = {**data, "AlarmNames": names or [""]}  # which no alarm is called
        return describe(params, data, is_cbor, is_json)

    cloudwatch._describe_alarms = describe_found
