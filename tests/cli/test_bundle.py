"""`skerry bundle`: from a project to a signed file without a node, and what it says while a node applies one."""

import json
import stat
from pathlib import Path

import pytest

from skerry.bundle import BUNDLES, BundleFile, Shelf
from skerry.trust import read_public
from tests.api.fake_view import Serving
from tests.cli.conftest import Call

PIPELINE = '[[pipelines]]\nname = "p"\nsource = { topic = "devices/+/x", values = ["a"] }\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    file = tmp_path / "skerry.toml"
    file.write_text(PIPELINE)
    return file


def signed(call: Call) -> str:
    """A key and a bundle that it signed; the bundle's id."""
    assert call("bundle", "key", "new", "ops.key").code == 0
    built = call("--json", "bundle", "build", "plant.bundle", "--version", "1.2")
    assert built.code == 0, built.err
    assert call("bundle", "sign", "plant.bundle", "--key", "ops.key").code == 0
    return str(json.loads(built.out)["id"])


def test_a_key_is_its_owners_alone_and_is_not_written_over(call: Call, tmp_path: Path) -> None:
    said = call("bundle", "key", "new", "ops.key")
    assert 'trusted = ["ops.key.pub"]' in said.out
    assert stat.S_IMODE((tmp_path / "ops.key").stat().st_mode) == 0o600
    before = (tmp_path / "ops.key").read_bytes()
    assert len(read_public((tmp_path / "ops.key.pub").read_bytes())) == 32
    again = call("bundle", "key", "new", "ops.key")
    assert (again.code, (tmp_path / "ops.key").read_bytes()) == (1, before)
    (tmp_path / "ops.key").unlink()
    assert call("bundle", "key", "new", "ops.key").code == 1  # its public half is still there
    assert not (tmp_path / "ops.key").exists()


def test_build_sign_and_verify_need_no_node(call: Call, project: Path, tmp_path: Path) -> None:
    known = signed(call)
    said = call("bundle", "verify", "plant.bundle", "--key", "ops.key.pub")
    assert (said.code, f"id {known}" in said.out, "whole, and signed with key" in said.out) == (0, True, True)
    untrusted = call("bundle", "verify", "plant.bundle")
    assert (untrusted.code, "no key is trusted here" in untrusted.err) == (1, True)
    project.write_text(PIPELINE + '[bundles]\ntrusted = ["ops.key.pub"]\n')
    found = json.loads(call("--json", "bundle", "verify", "plant.bundle").out)
    assert (found["ok"], found["pipelines"], found["signer"]) == (True, ["p"], found["signers"][0])
    data = (tmp_path / "plant.bundle").read_bytes()
    (tmp_path / "plant.bundle").write_bytes(data.replace(b'"name":"p"', b'"name":"q"'))
    said = call("bundle", "verify", "plant.bundle")
    assert (said.code, "it was changed" in said.err) == (1, True)


def test_what_cannot_be_built_is_said_in_a_sentence(call: Call, project: Path, tmp_path: Path) -> None:
    for arguments, why in [
        (["x.bundle", "--version", "a b"], "will not do"),
        (["x.bundle", "--needs", "soon"], "no version of skerry"),
        (["nowhere/x.bundle"], "cannot be made"),
    ]:
        said = call("bundle", "build", *arguments)
        assert (said.code, why in said.err) == (1, True), said.err
    project.write_text("")
    said = call("bundle", "build", "x.bundle")
    assert (said.code, "there is nothing to put into a bundle" in said.err) == (1, True)
    project.write_text(PIPELINE + 'model = "gone"\n')
    assert call("bundle", "build", "x.bundle").code == 2
    assert not (tmp_path / "x.bundle").exists()


def test_a_bundle_is_applied_and_each_phase_is_said_once(call: Call, node: Serving, tmp_path: Path) -> None:
    (tmp_path / "plant.bundle").write_bytes(b"the node reads it")
    said = call("bundle", "apply", "plant.bundle", "--probation", "5s", "--dead-letters", "2")
    assert (said.code, said.out) == (0, "bundle plant 1.2 is kept\n")
    assert said.err.splitlines() == ["bundle plant 1.2 is checking", "bundle plant 1.2 is on probation for 5 s"]
    assert node.view.bundles.came == [(b"", str(tmp_path / "plant.bundle"))]
    assert node.view.bundles.begun == [("ab" * 16, "5s", 2)]
    listed = call("bundle", "list")
    assert "p, q, r and 1 more  cdcdcdcdcdcd" in listed.out
    assert "plant 1.2  kept" in listed.out
    assert call("bundle", "rollback").out == "active: skerry.toml alone\n"


def test_one_that_is_not_kept_is_exit_code_1_with_the_reason(call: Call, node: Serving) -> None:
    node.view.bundles.outcome, node.view.bundles.reason = "rolled back", "pipeline p: failed: it takes 3 columns"
    said = call("bundle", "apply", "plant", "--probation", "5s")
    assert said.code == 1
    assert "bundle plant 1.2 was rolled back: pipeline p: failed: it takes 3 columns; what ran before goes on" in said.err


def test_without_waiting_it_returns_at_once(call: Call, node: Serving) -> None:
    said = call("--json", "bundle", "apply", "plant", "--no-wait")
    assert (said.code, json.loads(said.out)["phase"]) == (0, "checking")
    assert node.view.bundles.begun == [("plant", "", 0)]


def test_to_another_computer_the_bytes_are_sent(call: Call, node: Serving, tmp_path: Path) -> None:
    (tmp_path / "plant.bundle").write_bytes(b"good bytes")
    said = call("--url", node.url, "bundle", "apply", "plant.bundle")
    assert said.code == 0, said.err
    assert node.view.bundles.came == [(b"good bytes", "")]


def test_on_a_stopped_node_what_is_there_is_listed_and_taken_back(call: Call, project: Path, tmp_path: Path) -> None:
    known = signed(call)
    (tmp_path / "data").mkdir()
    shelf = Shelf(tmp_path / "data" / BUNDLES)
    shelf.install(BundleFile(tmp_path / "plant.bundle"), [read_public((tmp_path / "ops.key.pub").read_bytes())])
    assert call("bundle", "rollback").code == 1
    shelf.switch(known, 1_000_000)
    shelf.keep()
    assert json.loads(call("--json", "bundle", "list").out)["active"] == known
    assert f'pipelines[0].name = "p"  # bundle plant 1.2 ({known[:12]})' in call("config", "show", "--origin").out
    assert call("bundle", "rollback").out == "active: skerry.toml alone\n"
    assert shelf.read().active == ""
    assert call("bundle", "apply", "plant").code == 3
    shelf.switch(known, 1_000_000)
    shelf.keep()
    (shelf.folder(known) / "manifest.json").write_bytes(b"{}")
    said = call("config", "check")
    assert (said.code, "skerry bundle rollback" in said.err) == (1, True)
    assert call("bundle", "rollback").code == 0
    assert call("config", "check").code == 0


def test_a_backup_has_the_bundle_and_brings_it_back(call: Call, project: Path, tmp_path: Path) -> None:
    known = signed(call)
    (tmp_path / "data").mkdir()
    shelf = Shelf(tmp_path / "data" / BUNDLES)
    shelf.install(BundleFile(tmp_path / "plant.bundle"), [read_public((tmp_path / "ops.key.pub").read_bytes())])
    shelf.switch(known, 1_000_000)
    shelf.keep()
    assert call("backup", "create", "rock.backup").code == 0
    project.write_text("")
    there = tmp_path / "there" / "skerry.toml"
    assert call("--config", there, "backup", "restore", "rock.backup", "--without-secrets").code == 0
    assert f"# bundle plant 1.2 ({known[:12]})" in call("--config", there, "config", "show", "--origin").out
