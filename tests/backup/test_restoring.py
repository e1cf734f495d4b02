"""Backups of files, without a node: what comes back, what is refused, and that nothing is written before all is verified."""

from pathlib import Path

import pytest

from skerry.backup import Reader, create_backup, restore_backup
from skerry.config import load
from skerry.core.clock import SystemClock
from skerry.core.errors import CorruptError, RejectedError, SkerryError, UnavailableError
from skerry.node import RESTORING, Node, make_certificates
from skerry.runtime import DirectoryLock
from skerry.store import StorageConfig, SyncKeyValueStore

WORDS = "twelve stones in a row"
TOML = """
[node]
name = "rock"
[broker]
mqtt = "127.0.0.1:0"
{more}
[storage]
path = "./kept"
max_size = "64MiB"
[[models]]
name = "m"
file = "models/m.onnx"
"""
TLS = 'mqtts = "127.0.0.1:0"\ntls = { cert = "data/tls/server.pem", key = "data/tls/server.key" }'


def site(folder: Path, more: str = "") -> Path:
    """A data directory as a stopped node leaves it."""
    data = folder / "data"
    for name, content in {
        "uptime.json": b"{}", "keys/issuer.seed": b"S" * 50, "logs/audit.log": b"{}\n", "logs/skerry.log": b"noise",
        "broker/jetstream/AGENT/streams/x/msgs/1.blk": b"block" * 1000, "broker/kept.json": b"{}", "run/a.pid": b"1",
    }.items():  # fmt: skip
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    (folder / "models").mkdir()
    (folder / "models" / "m.onnx").write_bytes(b"a model")
    (folder / "skerry.toml").write_text(TOML.format(more=more))
    with SyncKeyValueStore(StorageConfig(folder / "kept", "64MiB")) as store:
        store.set(b"colour", b"grey")
    if more:
        make_certificates(load(folder / "skerry.toml"), SystemClock())
    return folder / "skerry.toml"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    path = tmp_path / "a.backup"
    create_backup(load(site(tmp_path / "here")), path)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_a_stopped_node_kept_comes_back(backup: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    answer = restore_backup(backup, there / "skerry.toml")
    assert (there / "skerry.toml").read_text() == (tmp_path / "here" / "skerry.toml").read_text()
    assert (there / "models" / "m.onnx").read_bytes() == b"a model"
    assert files(there / "data") == ["broker/jetstream/AGENT/streams/x/msgs/1.blk", "lock", "logs/audit.log", "uptime.json"]
    with SyncKeyValueStore(StorageConfig(there / "kept", "64MiB")) as store:
        assert store.get(b"colour") == b"grey"
    assert any("new keys" in note for note in answer["notes"])
    assert not (tmp_path / "here" / "data" / "backup").exists()


def test_secrets_come_back_with_their_passphrase(backup: Path, tmp_path: Path) -> None:
    with_secrets = tmp_path / "b.backup"
    answer = create_backup(load(tmp_path / "here" / "skerry.toml"), with_secrets, passphrase=WORDS)
    assert (answer["secrets"], answer["left_out"]) == (True, [])
    restore_backup(with_secrets, tmp_path / "with" / "skerry.toml", passphrase=WORDS)
    seed = tmp_path / "with" / "data" / "keys" / "issuer.seed"
    assert (seed.read_bytes(), seed.stat().st_mode & 0o777) == (b"S" * 50, 0o600)
    restore_backup(with_secrets, tmp_path / "without" / "skerry.toml", without_secrets=True)
    assert not (tmp_path / "without" / "data" / "keys").exists()
    with pytest.raises(RejectedError, match="holds no secrets"):
        restore_backup(backup, tmp_path / "none" / "skerry.toml", passphrase=WORDS)
    with pytest.raises(RejectedError, match="too short"):
        create_backup(load(tmp_path / "here" / "skerry.toml"), tmp_path / "c.backup", passphrase="short")
    assert not (tmp_path / "c.backup").exists()


def test_without_secrets_a_site_with_its_own_ca_gets_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    file = site(tmp_path / "here", TLS)
    create_backup(load(file), tmp_path / "a", passphrase=WORDS)
    authority = (tmp_path / "here" / "data" / "tls" / "ca.pem").read_bytes()
    restore_backup(tmp_path / "a", tmp_path / "same" / "skerry.toml", passphrase=WORDS)
    assert (tmp_path / "same" / "data" / "tls" / "ca.pem").read_bytes() == authority
    create_backup(load(file), tmp_path / "b")
    answer = restore_backup(tmp_path / "b", tmp_path / "new" / "skerry.toml")
    tls = tmp_path / "new" / "data" / "tls"
    assert (tls / "ca.pem").read_bytes() != authority
    assert {"ca.key", "server.key", "server.pem"} <= {path.name for path in tls.iterdir()}
    assert any("new CA" in note for note in answer["notes"])


def test_a_damaged_backup_writes_nothing(backup: Path, tmp_path: Path) -> None:
    changed = bytearray(backup.read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "bad").write_bytes(bytes(changed))
    with pytest.raises(CorruptError):
        restore_backup(tmp_path / "bad", tmp_path / "there" / "skerry.toml")
    assert not (tmp_path / "there").exists()


def test_a_directory_that_is_not_empty_is_refused_and_force_clears_it(backup: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "data").mkdir(parents=True)
    (there / "data" / "mine").write_bytes(b"1")
    with pytest.raises(RejectedError, match="is not empty"):
        restore_backup(backup, there / "skerry.toml")
    assert files(there) == ["data/lock", "data/mine"]
    restore_backup(backup, there / "skerry.toml", force=True)
    assert "mine" not in files(there / "data")
    with pytest.raises(RejectedError, match="is not empty"):
        restore_backup(backup, there / "skerry.toml")


def test_a_configuration_that_is_there_says_where_to(backup: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    text = TOML.format(more="").replace("rock", "other").replace("[broker]", 'data_dir = "elsewhere"\n[broker]')
    (there / "skerry.toml").write_text(text)
    answer = restore_backup(backup, there / "skerry.toml")
    assert (there / "skerry.toml").read_text() == text
    assert (there / "elsewhere" / "uptime.json").exists()
    assert any("stays as it is" in note for note in answer["notes"])


def test_a_restore_that_was_interrupted_is_seen_and_can_be_done_again(backup: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "data").mkdir(parents=True)
    (there / "data" / RESTORING).write_bytes(b"")
    (there / "data" / "half").write_bytes(b"1")
    (there / "node.toml").write_text(TOML.format(more=""))
    with pytest.raises(CorruptError, match="was not finished"):
        Node(load(there / "node.toml", with_models=False))
    restore_backup(backup, there / "skerry.toml")
    assert not (there / "data" / RESTORING).exists()
    assert not (there / "data" / "half").exists()


def test_a_node_that_runs_there_is_left_alone(backup: Path, tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "here" / "data")
    lock.take()
    for attempt in (
        lambda: restore_backup(backup, tmp_path / "here" / "skerry.toml", force=True),
        lambda: create_backup(load(tmp_path / "here" / "skerry.toml"), tmp_path / "b"),
    ):
        with pytest.raises(UnavailableError, match="in use by another skerry"):
            attempt()
    lock.release()
    assert (tmp_path / "here" / "data" / "uptime.json").exists()
    assert not (tmp_path / "b").exists()


def test_what_the_configuration_names_elsewhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    file = site(tmp_path / "here")
    (tmp_path / "far.onnx").write_bytes(b"far")
    file.write_text(file.read_text().replace("models/m.onnx", str(tmp_path / "far.onnx")))
    answer = create_backup(load(file), tmp_path / "a")
    assert str(tmp_path / "far.onnx") in answer["left_out"]
    assert any("far.onnx" in note for note in restore_backup(tmp_path / "a", tmp_path / "there" / "skerry.toml")["notes"])


def test_nothing_to_back_up_is_said(tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text("[node]\nname = 'a'\n")
    with pytest.raises(RejectedError, match="nothing to back up"):
        create_backup(load(tmp_path / "skerry.toml"), tmp_path / "a")
    with pytest.raises(SkerryError, match="cannot be read"):
        Reader(tmp_path / "none")


def test_links_in_the_data_directory_are_not_followed(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"of somebody else")
    (tmp_path / "here" / "data" / "link").symlink_to(tmp_path / "secret")
    create_backup(load(tmp_path / "here" / "skerry.toml"), tmp_path / "b")
    names = [member.name for member in Reader(tmp_path / "b").verify().members]
    assert "data/uptime.json" in names
    assert "data/link" not in names
