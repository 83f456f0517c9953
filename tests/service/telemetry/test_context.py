import pytest

from service.telemetry.context import RequestContext, request_id, trace


@pytest.mark.parametrize("offered", ["a", "A-Z_0.9", "x" * 128])
def test_a_safe_id_is_kept(offered: str) -> None:
    assert request_id(offered) == offered


@pytest.mark.parametrize("offered", [None, "", "x" * 129, "a b", "a\n", "é", "<script>"])
def test_any_other_id_is_dropped(offered: str | None) -> None:
    assert request_id(offered) is None


def test_new_ids_are_safe_and_differ() -> None:
    first, second = RequestContext().id, RequestContext().id
    assert first != second
    assert request_id(first) == first


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
