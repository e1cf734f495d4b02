"""`skerry init --tls` and `skerry ca`: certificates without a running node."""

import json
import ssl
import stat
import subprocess
from pathlib import Path

from skerry.config import load
from skerry.trust import certificate_facts, certificate_fingerprint, certificate_names
from skerry.trust.certificates import key_fits
from tests.cli.conftest import Call

TLS = Path("box") / "data" / "tls"


def made(call: Call, *more: str) -> None:
    answer = call("init", "box", "--name", "rock", "--tls", *more)
    assert answer.code == 0, answer.err


def test_init_writes_certificates_and_the_lines_that_use_them(call: Call, tmp_path: Path) -> None:
    answer = call("init", "box", "--name", "rock", "--tls", "--host", "box1.plant.example")
    folder = tmp_path / TLS
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        "wrote box/skerry.toml",
        *(f"wrote {folder / name}" for name in ("ca.pem", "server.pem", "server.key")),
        "wrote box/.gitignore",
        "devices need ca.pem to know this node; ca.key signs their certificates (skerry ca issue): keep it safe",
        "next: cd box && skerry run",
    ]
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in ("ca.key", "server.key")] == [0o600, 0o600]
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    names = certificate_facts((folder / "server.pem").read_bytes()).names
    assert {"localhost", "127.0.0.1", "::1", "box1.plant.example"} <= set(names)
    config = load(tmp_path / "box" / "skerry.toml")
    assert (config.broker.mqtt, config.broker.mqtts) == ("127.0.0.1:1883", "0.0.0.0:8883")
    assert config.broker.tls is not None
    assert config.api.tls is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.base / config.broker.tls.cert, config.base / config.broker.tls.key)
    assert "https://127.0.0.1:8080/readyz" in (tmp_path / "box" / "skerry.toml").read_text()


def test_init_again_keeps_the_authority(call: Call, tmp_path: Path) -> None:
    made(call)
    before = (tmp_path / TLS / "ca.pem").read_bytes()
    made(call, "--force")
    assert (tmp_path / TLS / "ca.pem").read_bytes() == before


def test_a_host_that_is_none_is_refused(call: Call) -> None:
    answer = call("init", "box", "--tls", "--host", "bø")
    assert answer.code == 1
    assert "'bø' is no host name" in answer.err


def test_show(call: Call, tmp_path: Path) -> None:
    made(call)
    file = tmp_path / TLS / "ca.pem"
    answer = call("ca", "show", "--config", "box/skerry.toml")
    assert answer.out.splitlines()[:2] == [
        f"{file}: CN=skerry site CA,O=site",
        f"fingerprint {certificate_fingerprint(file.read_bytes())}",
    ]
    found = json.loads(call("--json", "ca", "show", "--config", "box/skerry.toml").out)
    assert (found["file"], found["days_left"]) == (str(file), 3649)
    assert found["fingerprint"] == certificate_fingerprint(file.read_bytes())


def test_issue(call: Call, tmp_path: Path) -> None:
    made(call)
    answer = call("ca", "issue", "pump-1", "--out", "pump-1.pem", "--days", "90", "--config", "box/skerry.toml")
    assert answer.code == 0, answer.err
    file, ca = tmp_path / "pump-1.pem", tmp_path / TLS / "ca.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert certificate_names(file.read_bytes()) == ("pump-1",)
    assert key_fits(file.read_bytes(), file.read_bytes())
    assert answer.out.splitlines()[1] == f"the device needs it and {ca}; let it in with: skerry device add pump-1 --cert ca"
    checked = subprocess.run(["openssl", "verify", "-purpose", "sslclient", "-CAfile", ca, file], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    ssl.create_default_context().load_cert_chain(file)


def test_a_file_is_never_written_over(call: Call, tmp_path: Path) -> None:
    made(call)
    (tmp_path / "there.pem").write_text("mine")
    answer = call("ca", "issue", "pump-1", "--out", "there.pem", "--config", "box/skerry.toml")
    assert (answer.code, answer.err) == (1, "error: there.pem: cannot be made: File exists; name a new file\n")
    assert (tmp_path / "there.pem").read_text() == "mine"


def test_an_id_that_is_none_is_refused(call: Call, tmp_path: Path) -> None:
    made(call)
    answer = call("ca", "issue", "a b", "--out", "x.pem", "--config", "box/skerry.toml")
    assert answer.code == 1
    assert "'a b' is not a device id" in answer.err
    assert not (tmp_path / "x.pem").exists()


def test_without_an_authority(call: Call) -> None:
    assert call("init", "box").code == 0
    for command in (["show"], ["issue", "pump-1", "--out", "x.pem"]):
        answer = call("ca", *command, "--config", "box/skerry.toml")
        assert answer.code == 1
        assert "there is no site CA here; make one with skerry init --tls" in answer.err
