"""What traffic consists of, as a file says it, and files that do not."""

from pathlib import Path

import pytest

from loadtest.capacity.mix import Kind, MixError, read_mix


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mix.json"
    path.write_text(text)
    return path


def test_shares_of_routes_and_lengths_multiply_and_add_up_to_one(tmp_path: Path) -> None:
    text = (
        '{"/qa": {"share": 3, "tokens": {"32": 1, "128": 2}}, "/rerank": {"share": 1, "items": 20, "tokens": {"8": 5}}}'
    )
    mix = read_mix(written(tmp_path, text))
    assert mix == pytest.approx({Kind("/qa", 32): 0.25, Kind("/qa", 128): 0.5, Kind("/rerank", 8, 20): 0.25})


def test_a_share_of_nothing_is_left_out(tmp_path: Path) -> None:
    mix = read_mix(
        written(tmp_path, '{"/qa": {"share": 1, "tokens": {"32": 1, "64": 0}}, "/a": {"share": 0, "tokens": {"8": 1}}}')
    )
    assert mix == {Kind("/qa", 32): 1.0}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be read as JSON"),
        ("[1]", "is not an object of routes"),
        ("{}", "is not an object of routes"),
        ('{"qa": {"share": 1, "tokens": {"8": 1}}}', "qa: a route begins with a slash"),
        ('{"/qa": 3}', "/qa needs share and tokens"),
        ('{"/qa": {"share": 1}}', "/qa needs share and tokens"),
        ('{"/qa": {"share": 1, "tokens": {"8": 1}, "length": 3}}', "nothing else"),
        ('{"/qa": {"share": "much", "tokens": {"8": 1}}}', "/qa: share is not a number of 0 or more: 'much'"),
        ('{"/qa": {"share": -1, "tokens": {"8": 1}}}', "share is not a number of 0 or more: -1"),
        ('{"/qa": {"share": true, "tokens": {"8": 1}}}', "share is not a number"),
        ('{"/qa": {"share": NaN, "tokens": {"8": 1}}}', "share is not a number"),
        ('{"/qa": {"share": 1, "tokens": [8]}}', "tokens is not an object of lengths"),
        ('{"/qa": {"share": 1, "tokens": {}}}', "tokens is not an object of lengths"),
        ('{"/qa": {"share": 1, "tokens": {"short": 1}}}', "tokens is not a whole number from 1 to 100000: 'short'"),
        ('{"/qa": {"share": 1, "tokens": {"0": 1}}}', "tokens is not a whole number"),
        ('{"/qa": {"share": 1, "tokens": {"8": 1, "08": 1}}}', "names a length twice"),
        ('{"/qa": {"share": 1, "tokens": {"8": 0}}}', "all its shares are 0"),
        ('{"/qa": {"share": 0, "tokens": {"8": 1}}}', "all shares are 0"),
        ('{"/qa": {"share": 1, "items": 1.5, "tokens": {"8": 1}}}', "items is not a whole number"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(MixError) as error:
        read_mix(written(tmp_path, text))
    assert told in str(error.value)
    assert "mix.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MixError, match=r"nothing\.json cannot be read"):
        read_mix(tmp_path / "nothing.json")
