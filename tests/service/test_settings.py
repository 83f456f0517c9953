from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, explain, help_text


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
    assert explained() == "HALFDEPTH_API_KEYS_FILE cannot be read as text"
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
