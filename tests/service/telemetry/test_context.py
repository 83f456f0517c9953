import pytest

from service.http.middleware import REQUEST_ID
from service.telemetry.context import RequestContext, trace


def test_new_ids_are_safe_and_differ() -> None:
    first, second = RequestContext().id, RequestContext().id
    assert first != second
    assert REQUEST_ID.fullmatch(first)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize("header", [f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-ff", f"cc-{TRACE}-{PARENT}-01-x"])
def test_a_traceparent_is_read(header: str) -> None:
    assert trace(header) == {"trace_id": TRACE, "parent_id": PARENT}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-x",
        f"00-{TRACE}-{PARENT}-01-",
        f"cc-{TRACE}-{PARENT}-01x",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-0",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE[1:]}-{PARENT}-01",
    ],
)
def test_a_malformed_traceparent_is_ignored(header: str | None) -> None:
    assert trace(header) == {}
