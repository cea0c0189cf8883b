"""The inference container in the hands of a host that allows it nothing but to serve."""

import json
import time
from pathlib import Path

import httpx

from tests.containers.support import HARDENED, MODEL, Container, container, inspect

LOCK = Path(__file__).parents[2] / "requirements.txt"
# What Triton does before its first kernel; the stub stands for the driver, which the host of a GPU brings.
LAUNCHER = """
import ctypes, os, subprocess, sys
from pathlib import Path
import triton
from triton.runtime.build import compile_module_from_src
stub = "/tmp/libcuda.so.1"
subprocess.run(["gcc", "-shared", "-Wl,-soname,libcuda.so.1", "-o", stub, "-x", "c", "/dev/null"], check=True)
ctypes.CDLL(stub)
sys.setdlopenflags(os.RTLD_LAZY)
nvidia = Path(triton.__file__).parent / "backends" / "nvidia"
module = compile_module_from_src(
    (nvidia / "driver.c").read_text(), "cuda_utils", ["/tmp"], [str(nvidia / "include")], ["libcuda.so.1"]
)
print(hasattr(module, "launch"))
"""
CHAT = {"model": "model", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 16}


def test_a_chat_is_answered_from_a_model_mounted_read_only(served: Container) -> None:
    with served.client() as client:
        assert [model.id for model in client.models.list()] == ["model"]
        whole = client.chat.completions.create(temperature=0, **CHAT)
        chunks = list(client.chat.completions.create(temperature=0, stream=True, **CHAT))
    text = whole.choices[0].message.content
    assert text
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text


def test_sagemakers_routes_answer_plainly_and_as_a_stream(served: Container) -> None:
    assert httpx.get(f"{served.url}/ping", timeout=2).status_code == 200
    whole = httpx.post(f"{served.url}/invocations", json=CHAT, timeout=60)
    assert whole.status_code == 200
    assert whole.json()["choices"][0]["message"]["content"]
    with httpx.stream(
        "POST", f"{served.url}/invocations", json=CHAT | {"stream": True}, timeout=60
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    assert any(json.loads(line)["choices"][0]["delta"].get("content") for line in lines[:-1])


def test_an_answer_can_be_held_to_a_schema(served: Container) -> None:
    """The compiler of grammars is there, and may start its process."""
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    held = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    asked = CHAT | {"response_format": held, "max_tokens": 60}
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=asked, timeout=60)
    assert answer.status_code == 200, answer.text
    assert isinstance(json.loads(answer.json()["choices"][0]["message"]["content"])["sure"], bool)


def test_it_has_no_rights_and_no_tools(served: Container) -> None:
    status = served.python("print(open('/proc/1/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert int(fields["CapEff"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    tools = served.python(
        "import importlib.util, shutil\n"
        "print([name for name in ('g++', 'make', 'pip', 'curl') if shutil.which(name)])\n"
        "print(importlib.util.find_spec('pip'), importlib.util.find_spec('pytest'))"
    )
    assert tools == "[]\nNone None"
    left = served.python(
        "import pathlib\n"
        "print([p for p in ('/wheels', '/etc/pip.conf', '/build') if pathlib.Path(p).exists()])"
    )
    assert left == "[]"


def test_a_scanner_finds_every_package_in_the_version_that_was_locked(served: Container) -> None:
    code = (
        "import json\n"
        "from importlib.metadata import distributions\n"
        "print(json.dumps([[each.name, each.version] for each in distributions()]))"
    )
    found = {name.lower().replace("_", "-"): version for name, version in json.loads(served.python(code))}
    pinned = (line.split("==") for line in LOCK.read_text().splitlines() if "==" in line)
    locked = {name.lower().replace("_", "-"): version for name, version in pinned}
    assert {"byollm", "torch", "xgrammar"} <= found.keys()
    wrong = {n: v for n, v in found.items() if n in locked and v.partition("+")[0] != locked[n]}
    assert not wrong
    theirs = ("cuda-", "nvidia-")  # which of NVIDIA's packages belong to it, PyTorch itself says
    assert {name for name in found.keys() - locked.keys() if not name.startswith(theirs)} == {"byollm"}
    assert served.python("print(open('/var/lib/dpkg/status').read().count('Package: '))") != "0"


def test_only_an_image_for_gpus_has_a_compiler_and_triton_can_use_it(image: str) -> None:
    with container(image, options=[*HARDENED[:2], "/tmp:exec", *HARDENED[3:]]) as serving:
        has = "import shutil, torch; print(shutil.which('gcc') is not None, torch.version.cuda is not None)"
        told = serving.python(has)
        assert told in ("True True", "False False")
        if told == "True True":
            assert serving.python(LAUNCHER) == "True"


def test_the_compiled_kernels_are_there(served: Container) -> None:
    code = "from byollm.kernels.cpu import load_library; print(load_library() is not None)"
    machine = served.python("import platform; print(platform.machine())")
    assert served.python(code) == str(machine == "x86_64")


def test_the_image_says_how_it_is_to_be_run(image: str) -> None:
    config = inspect(image)["Config"]
    user, group = config["User"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert config["Entrypoint"][1:] == ["-m", "byollm"]  # exec form: signals reach the server
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert config["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert config["Labels"]["org.opencontainers.image.revision"]
    assert not [name for name in config["Env"] if name.startswith(("PIP_", "AWS_"))]


def test_without_a_network_it_serves_on_8080(image: str) -> None:
    """What SageMaker's network isolation leaves: a loopback interface."""
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/ping', timeout=5).status)"
    patient = f"import time\nfor _ in range(600):\n try:\n  {ask}\n  break\n except OSError: time.sleep(0.2)"
    with container(image, network="none") as isolated:
        assert isolated.python(patient) == "200", isolated.logs()
        assert "http://0.0.0.0:8080" in isolated.logs()


def test_sigterm_during_a_stream_lets_it_finish_and_exits_with_0(image: str) -> None:
    with container(image) as serving, serving.client() as client:
        serving.wait_until_ready()
        stream = client.chat.completions.create(
            stream=True, extra_body={"min_tokens": 300}, **CHAT | {"max_tokens": 300}
        )
        next(stream)
        told = time.monotonic()
        serving.kill("TERM")
        *_, last = (chunk for chunk in stream if chunk.choices)
        assert last.choices[0].finish_reason == "length"
        assert serving.wait(25 - (time.monotonic() - told)) == 0


def test_sigterm_while_it_starts_ends_it(image: str) -> None:
    """The first process of a container gets only those signals that it has a handler for."""
    with container(image) as starting:
        time.sleep(0.5)
        starting.kill("TERM")
        assert starting.wait(25) in (0, 143)


def test_nothing_is_written_outside_tmp_even_where_that_is_possible(image: str) -> None:
    options = [option for option in HARDENED if option != "--read-only"]
    with container(image, options=options) as loose:
        loose.wait_until_ready()
        assert httpx.post(f"{loose.url}/invocations", json=CHAT, timeout=60).status_code == 200
        written = loose.python(
            "import os\n"
            "top = [e.path for e in os.scandir('/') if e.name not in ('proc', 'sys', 'dev', 'tmp')]\n"
            "born = os.stat('/proc/1').st_ctime\n"
            "print([os.path.join(d, f) for t in top for d, _, fs in os.walk(t) for f in fs\n"
            "  if os.lstat(os.path.join(d, f)).st_mtime > born and os.lstat(os.path.join(d, f)).st_uid])"
        )
        assert written == "[]"


def test_a_folder_without_a_model_is_refused_with_what_was_expected(image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with container(image, model=tmp_path) as empty:
        assert empty.wait(60) == 1
        assert "error: /opt/ml/model is no model directory: it has no config.json" in empty.logs()
    with container(image, model=None) as unmounted:
        assert unmounted.wait(60) == 1
        assert "error: no model directory /opt/ml/model" in unmounted.logs()


def test_a_broken_model_ends_the_container(image: str, tmp_path: Path) -> None:
    """A container that cannot serve is not to stay."""
    tmp_path.chmod(0o755)
    for file in MODEL.iterdir():
        if file.suffix in (".json", ".safetensors"):
            (tmp_path / file.name).write_bytes(file.read_bytes()[: 1000 if file.suffix != ".json" else None])
    with container(image, model=tmp_path) as broken:
        assert broken.wait(120) == 1
        assert "error: " in broken.logs()
        assert "Traceback" not in broken.logs()
