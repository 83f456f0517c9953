"""Debian's nginx before a service on a Unix socket, under a prefix that it strips or leaves, seen in Chromium."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from selenium.webdriver import Chrome

from loadtest.process import free_port, python_environment, python_module
from tests.browser import browse
from tests.server import ROOT, wait_until_ready
from tests.service.playground.test_browser import Page

pytestmark = pytest.mark.system

PREFIX = "/models/qa"


@pytest.fixture(scope="module")
def proxied() -> Iterator[dict[str, str]]:
    """The URLs of the prefix: where nginx takes it away, and where it leaves it."""
    ports = {"stripped": free_port(), "kept": free_port()}
    with TemporaryDirectory() as name:  # a short path, as a socket needs
        folder = Path(name)
        folder.chmod(0o755)  # nginx's workers are another user
        settings = {"BUNDLES": "bundles", "THREADS": "1", "UDS": str(folder / "1.sock"), "ROOT_PATH": PREFIX}
        environment = python_environment(**{f"HALFDEPTH_{key}": value for key, value in settings.items()})
        with (folder / "log").open("w") as log:
            service = subprocess.Popen(python_module("service"), cwd=ROOT, env=environment, stdout=log, stderr=log)
        servers = "\n".join(
            f"server {{ listen 127.0.0.1:{ports[kind]}; location {PREFIX}/ {{ proxy_pass http://halfdepth{slash}; }} "
            f"location = {PREFIX} {{ absolute_redirect off; return 301 {PREFIX}/; }} }}"
            for kind, slash in (("stripped", "/"), ("kept", ""))
        )
        (folder / "nginx.conf").write_text(
            f"events {{}}\nhttp {{ access_log off;\n"
            f"upstream halfdepth {{ server unix:{folder}/1.sock max_fails=0; }}\n{servers} }}\n"
        )
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
        assert nginx
        foreground = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;"
        proxy = subprocess.Popen([nginx, "-p", folder, "-c", folder / "nginx.conf", "-g", foreground])
        urls = {kind: f"http://127.0.0.1:{port}{PREFIX}" for kind, port in ports.items()}
        try:
            wait_until_ready(f"{urls['kept']}/health/ready", service, folder / "log")
            yield urls
        finally:
            for process in (proxy, service):
                process.terminate()
                process.wait()
        assert not (folder / "1.sock").exists()
        assert os.listdir(folder)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browse(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.mark.parametrize("kind", ["stripped", "kept"])
def test_the_pages_work_under_the_prefix(driver: Chrome, proxied: dict[str, str], kind: str) -> None:
    page = Page(driver, proxied[kind])  # without a slash at its end
    assert driver.current_url == f"{proxied[kind]}/"
    page.ask("qa")
    assert page.texts("#qa .output")[0]
    assert page.complaints() == []
    docs = Page(driver, f"{proxied[kind]}/docs")
    docs.until("return document.querySelector('.servers option')?.value")
    assert driver.execute_script("return document.querySelector('.servers option').value") == PREFIX
    assert docs.complaints() == []
