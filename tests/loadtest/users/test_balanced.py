"""Two replicas behind nginx: what is changed in the copy of its configuration, and what a run tells apart."""

from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.process import LoadTestError
from loadtest.record import read_record
from loadtest.users.balanced import CONFIGURATION, balanced, configuration
from tests.server import ROOT


def test_only_ports_the_log_and_a_header_are_changed() -> None:
    shipped = CONFIGURATION.read_text()
    text = configuration(shipped, 9000, ["http://127.0.0.1:9001", "http://127.0.0.1:9002"], Path("/tmp/access.log"))
    changed = [ours for line, ours in zip(shipped.splitlines(), text.splitlines(), strict=True) if line != ours]
    assert [line.strip() for line in changed] == [
        "access_log /tmp/access.log replicas;",
        "server 127.0.0.1:9001 max_fails=0;",
        "server 127.0.0.1:9002 max_fails=0;",
        "listen 127.0.0.1:9000;",
        "proxy_pass http://halfdepth; add_header X-Replica $upstream_addr always;",
    ]


def test_a_configuration_that_has_moved_on_is_told() -> None:
    with pytest.raises(LoadTestError, match=r"nginx\.conf has no line 'listen 8080;' of its own"):
        configuration("events {}", 9000, ["http://a:1", "http://b:2"], Path("/tmp/access.log"))


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
