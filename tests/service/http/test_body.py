import gzip
import tracemalloc
import zlib
from collections.abc import Iterable
from typing import Annotated

import pytest
from pydantic import BaseModel, TypeAdapter
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.engine.errors import InvalidRequestError
from service.errors import BodyTooLargeError, MalformedJsonError, UnsupportedMediaTypeError, headers_of
from service.http.body import (
    MAX_GZIP_MEMBERS,
    AtMostInputs,
    Gzip,
    deadline,
    one_or_several,
    parse_json,
    read_body,
    validate,
    wait_until_gone,
)

LIMIT = 10
JSON = {"content-type": "application/json"}


async def read(chunks: Iterable[bytes], headers: dict[str, str], limit: int = LIMIT) -> bytes:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    supply = iter([*messages, {"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        return next(supply)

    raw = [(name.encode(), line.encode()) for name, value in headers.items() for line in value.split("\n")]
    return bytes(await read_body(raw, receive, limit))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/problem+json", "application/x+JSON"],
)
async def test_json_may_be_declared_in_several_ways(media_type: str) -> None:
    assert await read([b"12345", b"67890"], {"content-type": media_type}) == b"1234567890"


@pytest.mark.anyio
@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "text/x+json", "json"])
async def test_anything_else_is_no_declaration_of_json(media_type: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        await read([b"{}"], {"content-type": media_type})
    with pytest.raises(UnsupportedMediaTypeError):
        await read([b"{}"], {})


@pytest.mark.anyio
async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(BodyTooLargeError):
        await read([], JSON | {"content-length": str(LIMIT + 1)})


@pytest.mark.anyio
async def test_a_chunked_body_is_cut_off_at_the_limit() -> None:
    with pytest.raises(BodyTooLargeError):
        await read([b"12345", b"678901"], JSON)


@pytest.mark.anyio
async def test_a_chunked_body_of_just_the_limit_passes() -> None:
    assert await read([b"12345", b"67890"], JSON) == b"1234567890"


@pytest.mark.anyio
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", " gzip ", "identity, gzip", "gzip\nidentity", "gzip,"])
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_body_in_gzip_is_inflated(coding: str, size: int) -> None:
    sent = gzip.compress(b"12345") + gzip.compress(b"67890") + b"\0\0"
    chunks = [sent[at : at + size] for at in range(0, len(sent), size)]
    assert await read(chunks, JSON | {"content-encoding": coding}, limit=1000) == b"1234567890"


@pytest.mark.anyio
@pytest.mark.parametrize("coding", ["", "identity", "Identity", "identity, identity", " , "])
async def test_no_coding_is_none_however_it_is_said(coding: str) -> None:
    assert await read([b"12345"], JSON | {"content-encoding": coding}) == b"12345"


CODINGS = ["br", "deflate", "zstd", "compress", "gzip, gzip", "br, gzip", "gzip\nbr", "br\ngzip", "utf-8", "gzip;q=1"]


@pytest.mark.anyio
@pytest.mark.parametrize("coding", CODINGS)
async def test_any_other_coding_is_refused_with_those_that_are_read(coding: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError) as caught:
        await read([b"{}"], JSON | {"content-encoding": coding})
    assert headers_of(caught.value)["Accept-Encoding"] == "gzip, identity"


@pytest.mark.anyio
@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate, chunked", "gzip\nchunked", "chunked, chunked"])
async def test_any_coding_of_the_transfer_but_chunks_is_refused(coding: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="Transfer-Encoding"):
        await read([b"{}"], JSON | {"transfer-encoding": coding})


@pytest.mark.anyio
@pytest.mark.parametrize("coding", ["chunked", "Chunked", " chunked "])
async def test_chunks_are_read(coding: str) -> None:
    assert await read([b"{}"], JSON | {"transfer-encoding": coding}) == b"{}"


WHOLE = gzip.compress(b"{}", mtime=0)  # it is in names of tests, which are the same for every worker


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body", [b"", b"{}", WHOLE[:-1], WHOLE[:5], WHOLE + b"x", zlib.compress(b"{}"), WHOLE + WHOLE[:9]]
)
async def test_what_is_declared_gzip_and_is_not_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedJsonError, match="gzip"):
        await read([body], JSON | {"content-encoding": "gzip"}, limit=1000)


def test_a_bomb_is_refused_at_the_limit_before_memory_grows() -> None:
    limit = 100_000
    bomb = zip_of_spaces(200_000_000)
    tracemalloc.start()
    with pytest.raises(BodyTooLargeError):
        Gzip(limit).feed(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * limit


def zip_of_spaces(size: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=31)
    return b"".join([compressor.compress(b" " * 1_000_000) for _ in range(size // 1_000_000)]) + compressor.flush()


def test_what_is_inflated_may_be_of_just_the_limit() -> None:
    inflater = Gzip(10)
    inflater.feed(gzip.compress(b"1234567890"))
    assert inflater.finish() == b"1234567890"
    with pytest.raises(BodyTooLargeError):
        Gzip(9).feed(gzip.compress(b"1234567890"))


def test_members_without_end_are_refused() -> None:
    inflater = Gzip(10)
    inflater.feed(gzip.compress(b"") * MAX_GZIP_MEMBERS)
    with pytest.raises(MalformedJsonError, match="as one"):
        inflater.feed(gzip.compress(b""))


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_json("\ufeff{}".encode()) == {}
    assert parse_json(bytearray('\ufeff["\\ud800"]'.encode())) == ["\ud800"]
    with pytest.raises(MalformedJsonError):
        parse_json("\ufeff\ufeff{}".encode())
    for encoding in ("utf-16", "utf-32"):
        with pytest.raises(MalformedJsonError):
            parse_json("{}".encode(encoding))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\n"}',
        b"[" * 100_000,
        b"1" * 5_000,
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedJsonError):
        parse_json(body)


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": "\\ud800"}', {"a": "\ud800"}),
        (b'{"a": "\\u0000"}', {"a": "\x00"}),
        ('{"a": "é🙂"}'.encode(), {"a": "é🙂"}),
        (b"null", None),
        (b"[1]", [1]),
    ],
)
def test_json_is_parsed(body: bytes, content: object) -> None:
    assert parse_json(body) == content


class Body(BaseModel):
    """A body with lists that are bounded, at two depths, and one that is not."""

    texts: Annotated[list[str], AtMostInputs()] = []
    nested: Annotated[list[str], AtMostInputs()] | str = ""
    free: list[int] = []


BODY = TypeAdapter(Body)


@pytest.mark.parametrize("field", ["texts", "nested"])
def test_more_inputs_than_the_limit_are_refused_before_any_is_looked_at(field: str) -> None:
    adapter: TypeAdapter[object] = TypeAdapter(Annotated[list[str], AtMostInputs()])
    body = TypeAdapter(dict[str, Annotated[list[str], AtMostInputs()]])
    with pytest.raises(InvalidRequestError, match=f"{field}: holds 3 items where the limit is 2; split the") as caught:
        validate(body, {field: [1, 2, 3]}, max_inputs=2)
    assert [error.field for error in caught.value.errors] == [field]
    with pytest.raises(InvalidRequestError, match="the body: holds 3 items"):
        validate(adapter, [1, 2, 3], max_inputs=2)


@pytest.mark.parametrize("content", [{"texts": ["a", "b"], "free": [1, 2, 3]}, {"nested": "a text"}, {"free": [1] * 9}])
def test_nothing_else_is_bound_by_the_limit(content: dict[str, object]) -> None:
    assert validate(BODY, content, max_inputs=2) == Body.model_validate(content)


def test_a_bounded_list_is_marked_for_the_documentation_which_knows_the_limit() -> None:
    properties = Body.model_json_schema()["properties"]
    assert properties["texts"][AtMostInputs.MARK]
    assert properties["nested"]["anyOf"][0][AtMostInputs.MARK]
    assert AtMostInputs.MARK not in properties["free"]


def test_one_or_several_are_told_apart_by_a_list_or_by_a_field() -> None:
    texts: TypeAdapter[object] = TypeAdapter(Annotated[str | list[str], one_or_several(str, list[str])])
    assert validate(texts, "a", max_inputs=2) == "a"
    assert validate(texts, ["a"], max_inputs=2) == ["a"]
    with pytest.raises(InvalidRequestError, match=r"^\[0\]: Input should be a valid string$"):
        validate(texts, [1], max_inputs=2)
    by_field = one_or_several(dict[str, int], Body, field="texts")
    bodies: TypeAdapter[object] = TypeAdapter(Annotated[dict[str, int] | Body, by_field])
    assert validate(bodies, {"texts": ["a"]}, max_inputs=2) == Body(texts=["a"])
    assert validate(bodies, {"a": 1}, max_inputs=2) == {"a": 1}


@pytest.mark.anyio
async def test_a_caller_who_leaves_before_its_body_is_whole_is_noticed() -> None:
    begun: Message = {"type": "http.request", "body": b"{", "more_body": True}
    messages = iter([begun, {"type": "http.disconnect"}])

    async def receive() -> Message:
        return next(messages)

    with pytest.raises(ClientDisconnect):
        await read_body([(b"content-type", b"application/json")], receive, LIMIT)


@pytest.mark.parametrize(
    ("header", "expected"), [(None, None), (b"250", 250_001_000), (b"0.5", 501_000), (b"250 \t", 250_001_000)]
)
def test_a_deadline_counts_from_the_receipt_of_the_request(header: bytes | None, expected: int | None) -> None:
    assert deadline(header, 1_000) == expected


@pytest.mark.parametrize("header", [b"", b"0", b"0.0", b"-5", b"soon", b"1e3", b"inf", b"1" * 10, "٣".encode()])
def test_any_other_deadline_is_refused_by_its_name(header: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        deadline(header, 0)
    assert [error.field for error in caught.value.errors] == ["X-Deadline-Ms"]
    assert "above 0 and below 1,000,000,000" in caught.value.detail  # a time of day, in milliseconds, is above


@pytest.mark.anyio
async def test_a_length_that_is_no_number_of_this_world_is_too_large() -> None:
    with pytest.raises(BodyTooLargeError):
        await read([b"{}"], JSON | {"content-length": "9" * 5000})
    assert await read([b"{}"], JSON | {"content-length": "0" * 5000 + "2"}) == b"{}"


@pytest.mark.anyio
async def test_a_caller_is_gone_once_the_connection_is_closed() -> None:
    messages = iter([{"type": "http.request"}, {"type": "http.disconnect"}, {"type": "http.request"}])

    async def receive() -> Message:
        return next(messages)

    await wait_until_gone(receive)
    assert len(list(messages)) == 1
