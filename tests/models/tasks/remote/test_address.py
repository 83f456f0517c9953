import pytest

from models.tasks.errors import UsageError
from models.tasks.remote.address import configured_address, configured_socket, local_url, service_url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://127.0.0.1:8000"),
        ("[::]", "http://127.0.0.1:8000"),
        ("0:0:0:0:0:0:0:0", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("[fd00::7]", "http://[fd00::7]:8000"),
        ("localhost", "http://localhost:8000"),
        ("10.1.2.3", "http://10.1.2.3:8000"),
        ("box.example", "http://box.example:8000"),
    ],
)
def test_a_machine_asks_its_own_service_where_that_listens(host: str, url: str) -> None:
    assert local_url(host, 8000) == url


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, ("127.0.0.1", 8000)),
        ({"HALFDEPTH_HOST": "", "HALFDEPTH_PORT": ""}, ("127.0.0.1", 8000)),
        ({"HALFDEPTH_HOST": "::", "HALFDEPTH_PORT": "9000"}, ("::", 9000)),
        ({"HALFDEPTH_PORT": "tcp://10.96.3.7:80"}, ("127.0.0.1", 8000)),
        ({"halfdepth_host": " box ", "Halfdepth_Port": " 9000 "}, ("box", 9000)),
    ],
)
def test_the_address_is_read_from_the_environment(environ: dict[str, str], address: tuple[str, int]) -> None:
    assert configured_address(environ) == address


@pytest.mark.parametrize(
    ("environ", "socket"),
    [
        ({}, None),
        ({"HALFDEPTH_UDS": "  "}, None),
        ({"HALFDEPTH_UDS": "/run/halfdepth.sock"}, "/run/halfdepth.sock"),
        ({"halfdepth_uds": " /run/halfdepth.sock "}, "/run/halfdepth.sock"),
        ({"UDS": "/run/other.sock"}, None),
    ],
)
def test_the_socket_is_read_from_the_environment(environ: dict[str, str], socket: str | None) -> None:
    assert configured_socket(environ) == socket


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://host:8301", "http://host:8301"),
        ("http://host:8301/", "http://host:8301"),
        ("http://host:8301//", "http://host:8301"),
        ("https://host/prefix/", "https://host/prefix"),
        ("localhost:8301", "http://localhost:8301"),
        ("http://[::1]:8301/", "http://[::1]:8301"),
        (" http://host ", "http://host"),
    ],
)
def test_a_url_may_be_written_in_several_ways(text: str, url: str) -> None:
    assert service_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "/", "ftp://host", "http://", "http://host:port", "http://host?x=1", "http://[::1"]
)
def test_anything_else_is_no_url_of_a_service(text: str) -> None:
    with pytest.raises(UsageError, match="is not the URL of a service"):
        service_url(text)
