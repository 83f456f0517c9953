import pytest

from service.errors import DrainingError
from service.lifecycle import Lifecycle


def test_a_service_that_serves_refuses_nothing() -> None:
    lifecycle = Lifecycle()
    lifecycle.check_ready()
    lifecycle.check_open()


def test_a_service_that_leaves_is_not_ready_but_takes_requests() -> None:
    lifecycle = Lifecycle()
    lifecycle.phase = "leaving"
    lifecycle.check_open()
    with pytest.raises(DrainingError) as caught:
        lifecycle.check_ready()
    assert caught.value.headers == {"Retry-After": "1"}


def test_a_service_that_drains_refuses_and_closes() -> None:
    lifecycle = Lifecycle()
    lifecycle.phase = "draining"
    with pytest.raises(DrainingError) as caught:
        lifecycle.check_open()
    assert caught.value.headers == {"Retry-After": "1", "Connection": "close"}
