"""`skerry kv`: on a running node, and on its files where none runs."""

import json
from pathlib import Path

import pytest

from skerry.store import StorageConfig, SyncKeyValueStore
from tests.api.fake_view import Serving
from tests.cli.conftest import TOML, Call


@pytest.fixture
def stopped(tmp_path: Path) -> StorageConfig:
    """The store of a node that does not run."""
    (tmp_path / "skerry.toml").write_text(f'{TOML}[storage]\npath = "kept"\nmax_size = "64MiB"\n')
    return StorageConfig(path=tmp_path / "kept", max_size="64MiB")


def walk(call: Call) -> None:
    assert call("kv", "set", "pump-1/limit", "7.5").out == "set pump-1/limit\n"
    assert call("kv", "set", "pump-2/limit", "ä", "--ttl", "1h").code == 0
    assert call("kv", "get", "pump-1/limit").out == "7.5\n"
    assert json.loads(call("kv", "get", "pump-2/limit", "--json").out) == {"key": "pump-2/limit", "value": "ä"}
    found = json.loads(call("kv", "scan", "--prefix", "pump-", "--json").out)
    assert found["entries"] == [{"key": "pump-1/limit", "value": "7.5"}, {"key": "pump-2/limit", "value": "ä"}]
    table = call("kv", "scan").out.splitlines()
    assert [line.split() for line in table if "pump" in line] == [["pump-1/limit", "7.5"], ["pump-2/limit", "ä"]]
    assert call("kv", "delete", "pump-1/limit").out == "deleted pump-1/limit\n"
    answer = call("kv", "get", "pump-1/limit")
    assert answer.code == 1
    assert "there is no value of 'pump-1/limit'" in answer.err
    assert call("kv", "delete", "pump-2/limit").code == 0
    assert call("kv", "scan").out == "no keys\n"


def test_on_a_running_node(call: Call, node: Serving, tmp_path: Path) -> None:
    walk(call)
    assert not (tmp_path / "data" / "store").exists()


def test_on_the_files_of_one_that_is_stopped(call: Call, stopped: StorageConfig) -> None:
    walk(call)
    assert call("kv", "set", "k", "v").code == 0
    with SyncKeyValueStore(stopped) as store:
        assert store.get(b"k") == b"v"
        answer = call("kv", "get", "k")
    assert answer.code == 1
    assert "in use by another skerry" in answer.err


def test_more_than_a_page_is_said(call: Call, stopped: StorageConfig) -> None:
    with SyncKeyValueStore(stopped) as store:
        for number in range(5):
            store.set(b"%d" % number, b"\xff", durable=False)
    found = json.loads(call("kv", "scan", "--limit", 3, "--json").out)["entries"]
    assert found == [{"key": str(number), "value": "\\xff"} for number in range(3)]
    assert "and more" in call("kv", "scan", "--limit", 3).out
    assert "and more" not in call("kv", "scan", "--limit", 5).out


def test_wrong_input_is_said(call: Call, stopped: StorageConfig) -> None:
    assert call("kv", "set", "k", "v", "--ttl", "soon").code == 2
    answer = call("kv", "set", "", "v")
    assert (answer.code, answer.out) == (1, "")
    assert "a key of no bytes" in answer.err


def test_a_key_that_no_url_holds_is_refused_before_anyone_is_asked(call: Call, node: Serving) -> None:
    assert call("kv", "set", "k" * 7000, "v").out.startswith("set k")
    for command in (("set", "ä" * 1400, "v"), ("get", "k" * 20_000), ("delete", "k" * 9000)):
        answer = call("kv", *command)
        assert answer.code == 1
        assert "a key of" in answer.err
        assert "give 1 to" in answer.err
    assert "a key of no bytes" in call("kv", "set", "", "v").err


def test_repair_saves_into_a_new_directory(call: Call, stopped: StorageConfig, tmp_path: Path) -> None:
    with SyncKeyValueStore(stopped) as store:
        store.set(b"k", b"v")
    answer = call("kv", "repair", "--into", "saved")
    assert answer.out.startswith("saved 1 entries into saved")
    with SyncKeyValueStore(StorageConfig(path=tmp_path / "saved")) as saved:
        assert list(saved.scan()) == [(b"k", b"v")]
    assert call("kv", "repair", "--into", "saved").code == 1
