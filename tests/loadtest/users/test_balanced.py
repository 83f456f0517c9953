"""Two replicas behind nginx: what is changed in the copy of its configuration, and what a run tells apart."""

from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.process import LoadTestError
from loadtest.record import read_record
from loadtest.users.balanced import ADDRESSES, CONFIGURATION, addresses, balanced, configuration
from tests.server import ROOT


def changed(shipped: str, text: str) -> list[str]:
    return [ours.strip() for line, ours in zip(shipped.splitlines(), text.splitlines(), strict=True) if line != ours]


def test_only_ports_the_log_and_a_header_are_changed() -> None:
    shipped, replicas = CONFIGURATION.read_text(), ADDRESSES.read_text()
    assert changed(shipped, configuration(shipped, 9000, Path("/tmp/access.log"))) == [
        "access_log /tmp/access.log replicas;",
        "listen 127.0.0.1:9000;",
        "proxy_pass http://halfdepth; add_header X-Replica $upstream_addr always;",
    ]
    assert changed(replicas, addresses(replicas, ["http://127.0.0.1:9001", "http://127.0.0.1:9002"])) == [
        "server 127.0.0.1:9001 max_fails=0;",
        "server 127.0.0.1:9002 max_fails=0;",
    ]


def test_a_configuration_that_has_moved_on_is_told() -> None:
    with pytest.raises(LoadTestError, match=r"nginx\.conf has no line 'listen 8080;' of its own"):
        configuration("events {}", 9000, Path("/tmp/access.log"))
    with pytest.raises(LoadTestError, match=r"replicas\.conf has no line 'server 127\.0\.0\.1:8001' of its own"):
        addresses("server 10.0.0.1:8001;", ["http://a:1", "http://b:2"])


def test_without_nginx_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(LoadTestError, match="nginx is not installed; on Debian: apt-get install"), balanced(tmp_path):
        pass


@pytest.mark.system
def test_each_replica_has_its_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HALFDEPTH_BUNDLES", str(ROOT / "bundles"))
    arguments = ["--through-nginx", "--seconds", "5", "--users", "4", "--out", str(tmp_path), "--route", "/qa"]
    assert main([*arguments, "--slo", "errors<0.1%"]) == 0
    rows = read_record(tmp_path / "load.json").rows
    replicas = [row for row in rows if row["kind"] == "replica"]
    assert len({row["replica"] for row in replicas}) == 2
    assert sum(row["requests"] for row in replicas) == next(row for row in rows if row["kind"] == "total")["requests"]
    stages = {(row["part"], row["replica"]) for row in rows if row["kind"] == "replica stage"}
    assert {("inference", row["replica"]) for row in replicas} <= stages
    assert "/qa: 2 replicas took " in capsys.readouterr().out
