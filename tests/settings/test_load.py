"""Layers override each other, and what is unknown or not allowed is refused with its path."""

from pathlib import Path

import pytest

from byollm.settings import SettingsError, load_settings


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("server: {port: 8100, host: 127.0.0.1}\npage: {port: 7000}\n")
    (tmp_path / "dev.yaml").write_text("server: {port: 8200}\n")
    (tmp_path / "empty.yaml").write_text("# nothing set\n")
    return tmp_path


def test_an_environment_overrides_base_field_by_field(directory: Path) -> None:
    settings = load_settings("dev", directory)
    assert (settings.server.port, settings.page.port) == (8200, 7000)


def test_a_file_without_settings_leaves_base(directory: Path) -> None:
    assert load_settings("empty", directory).server.port == 8100


def test_variables_override_files(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOLLM__SERVER__PORT", "8300")
    settings = load_settings("dev", directory)
    assert (settings.server.port, settings.server.host) == (8300, "127.0.0.1")


def test_a_variable_takes_a_value_away(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOLLM__ENDPOINT__HOST_IMAGE", "null")
    monkeypatch.setenv("BYOLLM__ENDPOINT__INSTANCE_TYPE", "ml.c7i.xlarge")
    assert load_settings("dev", directory).endpoint.host_image is None


def test_an_unknown_environment_names_those_that_exist(directory: Path) -> None:
    with pytest.raises(SettingsError, match=r"no environment 'prod'.*dev, empty"):
        load_settings("prod", directory)


def test_base_is_no_environment(directory: Path) -> None:
    with pytest.raises(SettingsError, match="no environment 'base'"):
        load_settings("base", directory)


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("servr: {port: 1}", ["servr: unknown setting", "Did you mean server?"]),
        ("server: {prot: 1}", ["server.prot: unknown setting (value 1)", "Did you mean port?"]),
        ("server: {port: 123456}", ["server.port:", "less than or equal to 65535", "(value 123456)"]),
        ("server: {port: many}", ["server.port:", "valid integer", "(value 'many')"]),
        ("engine: {dtype: float12}", ["engine.dtype:", "'float32'", "(value 'float12')"]),
        ("server: {port: 0x1ffff}\npage: {port: -1}", ["server.port:", "page.port:"]),
        ("server: {port: [", ["not valid YAML"]),
        ("- a\n- b", ["cannot be read"]),
        ("environment: prod", ["environment: unknown setting"]),
    ],
)
def test_a_wrong_file_is_refused_with_path_value_and_what_is_allowed(
    directory: Path, yaml: str, expected: list[str]
) -> None:
    (directory / "wrong.yaml").write_text(yaml)
    with pytest.raises(SettingsError) as refusal:
        load_settings("wrong", directory)
    for part in expected:
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BYOLLM__SERVER__PRT", "1", "server.prt: unknown setting"),
        ("BYOLLM__SEVER__PORT", "1", "BYOLLM__SEVER__PORT: unknown section 'sever'"),
        ("BYOLLM__SERVER__PORT", "zero", "server.port:"),
        ("BYOLLM__SERVER", "9000", r"server: Input should be a valid dictionary.* \(value 9000\)"),
        ("BYOLLM__ENGINE__CORES", "[1,", r"engine.cores: .*\(value '\[1,'\)"),
    ],
)
def test_a_wrong_variable_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=expected):
        load_settings("dev", directory)


def test_override_validates(directory: Path) -> None:
    server = load_settings("dev", directory).server
    assert server.override(port=9000, host=None).port == 9000
    with pytest.raises(SettingsError, match="port"):
        server.override(port=-1)
    with pytest.raises(SettingsError, match="unknown setting"):
        server.override(prot=1)


@pytest.mark.parametrize("env", [path.stem for path in Path("config").glob("*.yaml") if path.stem != "base"])
def test_every_environment_of_the_repository_loads(env: str) -> None:
    load_settings(env, Path("config"))
