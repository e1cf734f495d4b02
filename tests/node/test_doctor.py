"""What the doctor finds, each fault made on purpose."""

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.broker.binary import VARIABLE
from skerry.config import NodeConfig, load
from skerry.core.clock import SECOND, ManualClock, SystemClock
from skerry.core.errors import ConfigError
from skerry.node.doctor import Finding, _files, _measured, examine, failed
from skerry.node.tls import make_certificates, site_authority
from skerry.runtime import most_open_files
from skerry.trust.certificates import DAY

PORTS = '[broker]\nmqtt = "127.0.0.1:0"\n[api]\nlisten = "127.0.0.1:0"\n'
TLS = """\
[broker]
mqtt = "127.0.0.1:0"
mqtts = "127.0.0.1:0"
tls = { cert = "data/tls/server.pem", key = "data/tls/server.key" }
[api]
listen = "127.0.0.1:0"
"""


def configured(folder: Path, text: str = PORTS) -> NodeConfig:
    (folder / "skerry.toml").write_text(text)
    return load(folder / "skerry.toml", with_models=False)


def found(config: NodeConfig, check: str, clock: ManualClock | SystemClock | None = None) -> Finding:
    """The one finding of a check."""
    (finding,) = [each for each in examine(config, clock or SystemClock()) if each.check == check]
    return finding


def test_a_good_configuration_is_all_ok(tmp_path: Path) -> None:
    config = configured(tmp_path)
    findings = examine(config, SystemClock())
    assert [each for each in findings if each.level != "ok" and each.check != "disk"] == []
    assert [each.check for each in findings] == [
        "node", "configuration", "clock", "data directory", "disk", "open files", "nats-server", "broker.mqtt", "api.listen",
        "certificates", "private files", "mqtt",
    ]  # fmt: skip
    assert "3.1.1" in found(config, "mqtt").says
    assert found(config, "node").says == "does not run now"
    assert list(tmp_path.iterdir()) == [tmp_path / "skerry.toml"], "it leaves nothing behind"


def test_a_pipeline_that_does_not_load(tmp_path: Path) -> None:
    text = PORTS + '[[pipelines]]\nname = "p"\nsource = { topic = "devices/+/x", values = ["v"] }\nmodel = "none@active"\n'
    finding = found(configured(tmp_path, text), "pipeline p")
    assert finding.level == "fail"
    assert "none" in finding.says
    assert finding.mend


@pytest.mark.parametrize(("year", "level"), [(1970, "fail"), (2026, "ok"), (2199, "fail")])
def test_a_clock_that_must_be_wrong(tmp_path: Path, year: int, level: str) -> None:
    clock = ManualClock((year - 1970) * 31_556_952 * SECOND)
    finding = found(configured(tmp_path), "clock", clock)
    assert finding.level == level
    assert level == "ok" or "NTP" in finding.mend


def test_a_clock_that_is_behind_what_the_node_has_written(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.data_dir.mkdir(mode=0o700)
    (config.data_dir / "uptime.json").write_text("{}")
    assert found(config, "clock").level == "ok"
    finding = found(config, "clock", ManualClock(SystemClock().now() - 40 * DAY))
    assert (finding.level, "and the node wrote a file at" in finding.says) == ("warn", True)


def test_a_data_directory_that_others_may_look_into(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.data_dir.mkdir(mode=0o755)
    finding = found(config, "data directory")
    assert (finding.level, finding.mend) == ("warn", f"chmod 700 {config.data_dir}")
    config.data_dir.chmod(0o700)
    assert found(config, "data directory") == Finding("data directory", "ok", str(config.data_dir))


def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.data_dir.write_text("a file in the way")
    finding = found(config, "data directory")
    assert finding.level == "fail"
    assert "cannot be written: not a directory" in finding.says


def test_a_disk_that_is_smaller_than_the_log_may_become(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    finding = found(
        configured(tmp_path, PORTS.replace("[api]", f'retention = {{ size = "{(free >> 30) + 2}GiB" }}\n[api]')), "disk"
    )
    assert finding.level == "warn"
    assert finding.mend == "make room, or set a smaller broker.retention.size"


def test_no_nats_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    finding = found(configured(tmp_path), "nats-server")
    assert finding.level == "fail"
    assert VARIABLE in finding.mend


def test_ports(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        one, two = (each.getsockname()[1] for each in (taken, other))
        other.close()
        config = configured(tmp_path, f'[broker]\nmqtt = "127.0.0.1:{one}"\n[api]\nlisten = "127.0.0.1:{two}"\n')
        finding = found(config, "broker.mqtt")
        assert finding.level == "fail"
        assert finding.says.startswith(f"127.0.0.1:{one} is taken by ")
        assert f"(pid {os.getpid()})" in finding.says
        assert finding.mend == "stop it, or set another broker.mqtt"
        assert found(config, "api.listen") == Finding("api.listen", "ok", f"127.0.0.1:{two} is free")


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    finding = found(configured(tmp_path, '[broker]\nmqtt = "192.0.2.77:1883"\n[api]\nlisten = "127.0.0.1:0"\n'), "broker.mqtt")
    assert (finding.level, finding.mend) == ("fail", "set another broker.mqtt")
    assert "cannot assign requested address" in finding.says


def test_certificates_in_time(tmp_path: Path) -> None:
    clock = ManualClock(SystemClock().now())
    config = configured(tmp_path, TLS)
    make_certificates(config, clock)
    finding = found(config, "broker.tls", clock)
    assert (finding.level, finding.mend) == ("ok", "")
    assert finding.says.startswith("good for 823 days more (renewed by the node); ")
    assert found(config, "site CA", clock).level == "ok"
    clock.advance(800 * DAY)
    finding = found(config, "broker.tls", clock)
    assert (finding.level, finding.mend) == ("warn", "start the node: it renews its own certificate")
    assert finding.says.endswith(", in 23 days")
    clock.advance(2700 * DAY)
    assert found(config, "broker.tls", clock).level == "fail"
    finding = found(config, "site CA", clock)
    assert (finding.level, finding.mend) == ("warn", "make another authority, and give its ca.pem to the devices")


def test_certificates_that_are_brought(tmp_path: Path) -> None:
    clock = ManualClock(SystemClock().now())
    config = configured(tmp_path, TLS)
    make_certificates(config, clock)
    site_authority(config).directory.rename(tmp_path / "brought")
    config = configured(tmp_path, TLS.replace("data/tls", "brought"))
    assert "(brought, not renewed by the node)" in found(config, "broker.tls", clock).says
    clock.advance(800 * DAY)
    finding = found(config, "broker.tls", clock)
    assert (finding.level, finding.mend.endswith("renewed; the node takes it by itself")) == ("warn", True)
    (tmp_path / "brought" / "server.key").unlink()
    finding = found(config, "broker.tls", clock)
    assert finding.level == "fail"
    assert finding.says.endswith("server.key is not there")


def test_keys_that_others_can_read(tmp_path: Path) -> None:
    clock = SystemClock()
    config = configured(tmp_path, TLS)
    make_certificates(config, clock)
    assert found(config, "private files").level == "ok"
    key = site_authority(config).server[1]
    key.chmod(0o644)
    assert found(config, "private files") == Finding("private files", "warn", f"{key} can be read by others", f"chmod 600 {key}")


def test_an_error_as_a_finding() -> None:
    error = ConfigError("is wrong", where="skerry.toml: node.name", mend="write another")
    assert failed("configuration", error) == Finding("configuration", "fail", "skerry.toml: node.name: is wrong", "write another")


@pytest.mark.parametrize(("limit", "level"), [(10_511, "warn"), (10_512, "ok"), (sys.maxsize, "ok")])
def test_open_files(limit: int, level: str) -> None:
    finding = _files(10_000, limit)
    assert (finding.check, finding.level) == ("open files", level)
    assert bool(finding.mend) is (level == "warn")
    assert most_open_files() >= 1024


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (None, []),
        ({"resources": None}, []),
        ({"resources": {"measured_by": "cgroup"}}, ["the node has a cgroup of its own, and is measured by it"]),
        (
            {"resources": {"enforced_by": {"memory": "watch", "cpu": "niceness", "why": "none is its own"}}},
            ["memory by watch, CPU by niceness: none is its own"],
        ),
        ({"resources": {"measured_by": "processes"}}, ["the node has no cgroup of its own, and is measured process by process"]),
    ],
)
def test_how_a_running_node_is_measured(status: dict[str, Any] | None, says: list[str]) -> None:
    found = list(_measured(status))
    assert [(each.level, each.says) for each in found] == [("ok", each) for each in says]
    assert {each.check for each in found} <= {"cgroup", "enforcement"}


def test_a_connector_that_cannot_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = '[[connectors]]\nname = "hall"\nkind = "modbus"\n'
    table += 'devices = [{ name = "m", host = "h" }]\nregisters = [{ name = "v", address = 0 }]\n'
    config = configured(tmp_path, PORTS + table)
    assert found(config, "connector hall").says == "modbus, in: 0 messages since its start"
    monkeypatch.setitem(sys.modules, "pymodbus", None)
    finding = found(config, "connector hall")
    assert (finding.level, finding.mend) == ("fail", "install it: pip install 'skerry[modbus]'")
