import pytest

from service.context import RequestContext, request_id


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
