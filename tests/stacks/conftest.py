"""Every environment is synthesised once; most of what that costs is Node's start.

This folder has no `__init__.py`: pytest would take it for the package `stacks` that it tests.
"""

import pytest

from tests.stacks.support import ENVIRONMENTS, Synthesis, synthesise
from tests.stacks.whole import WHOLE, synthesise_whole


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Synthesis]:
    found = {env: synthesise(env, tmp_path_factory.mktemp(env)) for env in ENVIRONMENTS}
    return found | {WHOLE: synthesise_whole(tmp_path_factory.mktemp(WHOLE))}


@pytest.fixture(params=ENVIRONMENTS)
def synthesis(environments: dict[str, Synthesis], request: pytest.FixtureRequest) -> Synthesis:
    """Each environment in turn."""
    return environments[request.param]


@pytest.fixture(params=[*ENVIRONMENTS, WHOLE])
def any_synthesis(environments: dict[str, Synthesis], request: pytest.FixtureRequest) -> Synthesis:
    """Each environment in turn, and the stacks of one with everything on."""
    return environments[request.param]


@pytest.fixture
def whole(environments: dict[str, Synthesis]) -> Synthesis:
    return environments[WHOLE]


@pytest.fixture
def dev(environments: dict[str, Synthesis]) -> Synthesis:
    return environments["dev"]


@pytest.fixture
def prod(environments: dict[str, Synthesis]) -> Synthesis:
    return environments["prod"]
