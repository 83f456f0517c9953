import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.tasks.remote.address import configured_address
from service.settings import Settings, explain, help_text, injected_variables


def explained() -> str:
    with pytest.raises(ValidationError) as caught:
        Settings()
    return explain(caught.value)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFDEPTH_BUNDLES", "elsewhere")
    monkeypatch.setenv("HALFDEPTH_PORT", "9000")
    monkeypatch.setenv("HALFDEPTH_THREADS", "3")
    settings = Settings()
    assert settings.bundles == Path("elsewhere")
    assert settings.port == 9000
    assert settings.threads == 3


def test_models_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFDEPTH_MODELS", "org/name@v1, my-bundles,")
    assert Settings().models == ("org/name@v1", "my-bundles")
    monkeypatch.setenv("HALFDEPTH_MODELS", "")
    assert Settings().models == ()


def test_threads_are_chosen_by_default() -> None:
    assert Settings().threads == "auto"


def test_a_misspelt_variable_is_told_with_the_nearest_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFDEPTH_MAX_WINDOW", "3")
    assert explained() == (
        "HALFDEPTH_MAX_WINDOW is not a setting of this service; the nearest is HALFDEPTH_MAX_WINDOWS"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_WINDOWS", "-1"),
        ("MAX_INPUTS", "1.5"),
        ("THREADS", "0"),
        ("THREADS", "many"),
        ("LOG_FORMAT", "xml"),
        ("DRAIN_SECONDS", "-1"),
        ("DRAIN_SECONDS", "inf"),
        ("READ_TIMEOUT_SECONDS", "0"),
        ("API_KEYS_FILE", "/nowhere"),
    ],
)
def test_a_wrong_value_is_told_by_its_variable_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"HALFDEPTH_{name}", value)
    line = explained()
    assert line.startswith(f"HALFDEPTH_{name}: ")
    assert "\n" not in line


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_help_names_every_variable_with_its_default() -> None:
    text = help_text()
    for name, field in Settings.model_fields.items():
        assert f"HALFDEPTH_{name.upper()}" in text
        assert f"(default: {field.default or 'none'})" in text


def test_keys_come_from_the_variable_and_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# of the nightly job\nthird\n\n  fourth  \n")
    monkeypatch.setenv("HALFDEPTH_API_KEYS", "first, second,")
    monkeypatch.setenv("HALFDEPTH_API_KEYS_FILE", str(tmp_path / "keys"))
    assert Settings().keys() == ["first", "second", "third", "fourth"]


def test_there_are_no_keys_by_default() -> None:
    assert Settings().keys() == []


@pytest.mark.parametrize("keys", ["", " , ", "canary with a space", "first,canary\x7f"])
def test_keys_that_cannot_be_are_refused_without_naming_them(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("HALFDEPTH_API_KEYS", keys)
    line = explained()
    assert "key" in line
    assert "canary" not in line


def test_a_file_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    monkeypatch.setenv("HALFDEPTH_API_KEYS_FILE", str(tmp_path / "keys"))
    assert "hold no key" in explained()


def test_a_file_that_cannot_be_read_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xff")
    monkeypatch.setenv("HALFDEPTH_API_KEYS_FILE", str(tmp_path / "keys"))
    assert explained() == "HALFDEPTH_API_KEYS_FILE cannot be read as text; save it as UTF-8"
    monkeypatch.setattr(Path, "read_text", refuse)
    assert explained() == "HALFDEPTH_API_KEYS_FILE cannot be read: Permission denied"


def refuse(*_: object) -> str:
    raise PermissionError(13, "Permission denied")


def test_keys_are_masked_in_what_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFDEPTH_API_KEYS", "canary")
    assert "canary" not in str(Settings().model_dump(mode="json"))
    assert "canary" not in repr(Settings())


def test_origins_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().cors_origins == ()
    monkeypatch.setenv("HALFDEPTH_CORS_ORIGINS", "https://a.example, https://b.example")
    assert Settings().cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("value", "origin"),
    [
        ("https://a.example/", "https://a.example"),
        ("HTTPS://A.example", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("null", "null"),
        ("*", "*"),
    ],
)
def test_origins_are_written_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch, value: str, origin: str) -> None:
    monkeypatch.setenv("HALFDEPTH_CORS_ORIGINS", value)
    assert Settings().cors_origins == (origin,)


@pytest.mark.parametrize(
    "value", ["a.example", "localhost:3000", "https://*.a.example", "https://a.example/app", "https://a:b", "https://"]
)
def test_an_origin_that_no_browser_sends_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HALFDEPTH_CORS_ORIGINS", f"https://b.example,{value}")
    assert explained() == (
        "HALFDEPTH_CORS_ORIGINS: must be origins such as https://example.org or http://localhost:3000, or * for all"
    )


INJECTED = {  # by Kubernetes, for Services called halfdepth and halfdepth-web-2
    "HALFDEPTH_SERVICE_HOST": "10.96.3.7",
    "HALFDEPTH_SERVICE_PORT": "8000",
    "HALFDEPTH_SERVICE_PORT_HTTP_API": "8000",
    "HALFDEPTH_PORT": "tcp://10.96.3.7:8000",
    "HALFDEPTH_PORT_8000_TCP": "tcp://10.96.3.7:8000",
    "HALFDEPTH_PORT_8000_TCP_PROTO": "tcp",
    "HALFDEPTH_PORT_8000_TCP_PORT": "8000",
    "HALFDEPTH_PORT_8000_TCP_ADDR": "10.96.3.7",
    "HALFDEPTH_PORT_53_UDP": "udp://10.96.3.7:53",
    "HALFDEPTH_WEB_2_SERVICE_HOST": "fd00::7",
    "HALFDEPTH_WEB_2_SERVICE_PORT": "8000",
    "HALFDEPTH_WEB_2_PORT": "tcp://[fd00::7]:8000",
    "HALFDEPTH_WEB_2_PORT_8000_TCP_ADDR": "fd00::7",
}


def test_what_kubernetes_injects_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in INJECTED.items():
        monkeypatch.setenv(name, value)
    assert Settings().port == 8000
    assert Settings(port=9000).port == 9000
    assert set(injected_variables(os.environ)) == set(INJECTED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HALFDEPTH_PORT", "10.96.3.7:8000"),
        ("HALFDEPTH_WEB_PORT", "8000"),
        ("HALFDEPTH_SERVICE", "10.96.3.7"),
        ("HALFDEPTH_HOST_NAME", "tcp://10.96.3.7:8000"),
        ("HALFDEPTH_PORTS", "tcp://10.96.3.7:8000"),
    ],
)
def test_what_only_looks_like_it_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert name in explained()


def test_a_variable_of_ours_that_holds_a_url_is_not_taken_for_kubernetes_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFDEPTH_CORS_ORIGINS", "https://a.example")
    assert Settings().cors_origins == ("https://a.example",)


@pytest.mark.parametrize("value", ["", "  "])
@pytest.mark.parametrize("field", [name for name in Settings.model_fields if name not in ("api_keys", "api_keys_file")])
def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    monkeypatch.setenv(f"HALFDEPTH_{field.upper()}", value)
    assert getattr(Settings(), field) == Settings.model_fields[field].default


@pytest.mark.parametrize("blank", [" {}\t", "{}\r", "{}\n"])
@pytest.mark.parametrize(
    ("field", "value"), [("bundles", "there"), ("threads", "auto"), ("log_format", "text"), ("uds", "/run/a.sock")]
)
def test_blanks_around_a_value_are_none_of_it(
    monkeypatch: pytest.MonkeyPatch, field: str, value: str, blank: str
) -> None:
    monkeypatch.setenv(f"HALFDEPTH_{field.upper()}", blank.format(value))  # as lines of a file that ends them by CRLF
    assert str(getattr(Settings(), field)) == value


@pytest.mark.parametrize("value", ['"{}"', "'{}'", ' "{}"\r'])
@pytest.mark.parametrize(("field", "content"), [("PORT", "8000"), ("BUNDLES", "there"), ("API_KEYS", "canary")])
def test_quotes_around_a_value_are_refused(
    monkeypatch: pytest.MonkeyPatch, field: str, content: str, value: str
) -> None:
    monkeypatch.setenv(f"HALFDEPTH_{field}", value.format(content))  # which docker's --env-file keeps
    assert explained() == f"HALFDEPTH_{field} stands in quotes, which would be part of its value; leave them out"


def test_a_key_in_quotes_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text('"canary"\n')
    monkeypatch.setenv("HALFDEPTH_API_KEYS_FILE", str(tmp_path / "keys"))
    assert explained() == "an API key stands in quotes, which would be part of it; leave them out"


@pytest.mark.parametrize("field", ["API_KEYS", "API_KEYS_FILE"])
def test_keys_that_were_forgotten_do_not_open_the_service(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setenv(f"HALFDEPTH_{field}", "")
    assert field in explained()


def test_the_key_of_our_clients_is_no_setting_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFDEPTH_CLIENT_KEY", "secret")
    assert Settings().keys() == []
    monkeypatch.setenv("HALFDEPTH_API_KEY", "secret")
    assert explained().endswith("the nearest is HALFDEPTH_API_KEYS")


def test_a_file_of_keys_may_begin_with_a_byte_order_mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes("\ufefffirst\r\nsecond\r\n".encode())
    monkeypatch.setenv("HALFDEPTH_API_KEYS_FILE", str(tmp_path / "keys"))
    assert Settings().keys() == ["first", "second"]


@pytest.mark.parametrize(("value", "host"), [("[::]", "::"), ("::1", "::1"), (" 0.0.0.0 ", "0.0.0.0")])
def test_a_host_may_stand_in_brackets(monkeypatch: pytest.MonkeyPatch, value: str, host: str) -> None:
    monkeypatch.setenv("HALFDEPTH_HOST", value)
    assert Settings().host == host


@pytest.mark.parametrize(
    "value", ["[::1]:8000", "0.0.0.0:8000", "http://0.0.0.0", "*", "a b", "127.0.0.1,::1", "[::1", "]"]
)
def test_a_host_is_an_address_or_a_name_alone(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HALFDEPTH_HOST", value)
    assert explained() == (
        "HALFDEPTH_HOST: must be an address or a name, such as 0.0.0.0, :: or localhost; HALFDEPTH_PORT sets the port"
    )


@pytest.mark.parametrize("value", ["9_000", "+9000", "9000.0", "\u0669\u0660\u0660\u0660"])
def test_a_port_is_written_in_digits_alone(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HALFDEPTH_PORT", value)  # the health check, which reads no settings, would ask elsewhere
    assert explained() == "HALFDEPTH_PORT: must be a number in digits alone, such as 8000"


@pytest.mark.parametrize(
    "variables", [{}, INJECTED, {"HALFDEPTH_HOST": "", "HALFDEPTH_PORT": ""}, {"halfdepth_port": "1"}]
)
def test_who_reads_the_address_without_the_settings_reads_the_same(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert configured_address(os.environ) == (Settings().host, Settings().port)
