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
        assert f"(default: {field.default})" in text
