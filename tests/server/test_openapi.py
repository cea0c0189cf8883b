"""No request that our own schema describes, or nearly describes, makes the server fail."""

import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode, openapi

from tests.server.support import serving

EXAMPLES = int(os.environ.get("BYOLLM_TEST_EXAMPLES", "3"))  # of each route, right and wrong ones


def test_no_request_makes_the_server_fail(model_directory: Path, tmp_path: Path) -> None:
    statuses: set[int] = set()

    def check(case: Case) -> None:
        if isinstance(case.body, dict) and "messages" in case.body and case.body.get("model") == "tiny":
            # What is made up is hardly ever a conversation, and nothing after it would be tried.
            case.body["messages"] = [{"role": "user", "content": "hi"}]
        response = case.call(timeout=50)
        assert response.status_code < 500, response.text
        if response.status_code == 400:
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        statuses.add(response.status_code)

    log = tmp_path / "server.log"
    with serving(model_directory, log, engine__max_context=64) as server:  # so that answers are short
        for result in openapi.from_url(f"{server.url}/openapi.json").get_all_operations():
            operation = result.ok()
            modes = list(GenerationMode) if operation.method == "post" else [GenerationMode.POSITIVE]
            for mode in modes:
                cases = operation.as_strategy(generation_mode=mode)
                bounds = settings(
                    max_examples=EXAMPLES,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                )
                bounds(given(case=cases)(check))()
        server.wait_until_idle()
    assert statuses >= {200, 400}
    assert "Traceback" not in log.read_text()
