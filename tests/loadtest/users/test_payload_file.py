"""A user's own payloads: what is read, and which line is refused."""

from pathlib import Path

import pytest

from loadtest.process import LoadTestError
from loadtest.users.payload_file import Payload, check_paths, read_payloads

GOOD = '{"path": "/qa", "body": {"question": "Who?", "context": "Anna\u2028did."}}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.jsonl"


def test_each_line_is_a_request(file: Path) -> None:
    file.write_text(f'{GOOD}\n\n{{"path": "/embed", "body": {{"inputs": ["a"]}}}}\n', encoding="utf-8")
    assert read_payloads(file) == [
        Payload("/qa", {"question": "Who?", "context": "Anna\u2028did."}, 1),
        Payload("/embed", {"inputs": ["a"]}, 3),
    ]


def test_with_a_route_each_line_is_a_body(file: Path) -> None:
    file.write_text('{"question": "Who?", "context": "Anna"}')
    assert read_payloads(file, "/qa") == [Payload("/qa", {"question": "Who?", "context": "Anna"}, 1)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"path": "/qa", "body"', "this is not JSON"),
        ("[1]", "this is not a JSON object"),
        ('{"question": "Who?"}', "or bodies alone with --route"),
        ('{"path": "/qa", "body": {}, "more": 1}', "and nothing else"),
        ('{"path": "qa", "body": {}}', 'the path "qa" does not begin with a slash'),
        ('{"path": 1, "body": {}}', "the path 1 does not begin with a slash"),
        ('{"path": "/qa", "body": []}', "the body is not a JSON object"),
    ],
)
def test_a_broken_line_is_refused_by_its_number(file: Path, line: str, says: str) -> None:
    file.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    with pytest.raises(LoadTestError) as error:
        read_payloads(file)
    assert f"{file}, line 2: " in str(error.value)
    assert says in str(error.value)


def test_other_broken_files_are_told(file: Path) -> None:
    file.write_bytes(GOOD.encode() + b"\n\xff\n")
    with pytest.raises(LoadTestError, match="line 2: this is not UTF-8"):
        read_payloads(file)
    file.write_text("\n")
    with pytest.raises(LoadTestError, match="has no line"):
        read_payloads(file)
    with pytest.raises(LoadTestError, match="cannot be read: No such file"):
        read_payloads(file.with_name("none"))
    file.write_text(GOOD, encoding="utf-8")
    with pytest.raises(LoadTestError, match="line 1: it names a path itself; leave out --route"):
        read_payloads(file, "/qa")


def test_a_path_that_the_service_lacks_is_told_by_its_line(file: Path) -> None:
    templates = ["/qa", "/v2/models/{name}/infer"]
    check_paths(file, [Payload("/v2/models/mine/infer", {}, 1), Payload("/qa?x=1", {}, 2)], templates)
    for path in ("/v2/models/infer", "/qas", "/v2/models/a/b/infer"):
        with pytest.raises(LoadTestError, match=r"line 7: the service has no POST .*; it has /qa, /v2"):
            check_paths(file, [Payload(path, {}, 7)], templates)
