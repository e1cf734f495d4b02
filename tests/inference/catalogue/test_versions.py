"""The catalogue on disk: pointers, garbage, and a kill at any moment."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from onnx import helper

from skerry.core.clock import ManualClock
from skerry.core.errors import ConfigError, CorruptError, RejectedError, SkerryError
from skerry.inference import ModelConfig, Models
from skerry.inference.catalogue.staging import activate, misfit, stage
from skerry.inference.catalogue.trial import Report
from skerry.inference.catalogue.version import Tensor, Version
from skerry.inference.catalogue.versions import Catalogue
from tests.inference.conftest import FLOAT, MakeModel

# works on a catalogue until it is killed; with a number it kills itself at that write, rename, sync or delete
WORK = """
import os, signal, sys
from pathlib import Path
from skerry.inference.catalogue.version import Version
from skerry.inference.catalogue.versions import Catalogue
directory, file, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
steps = 0
def hook(event, arguments):
    global steps
    if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(directory) in str(arguments[0]):
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
catalogue = Catalogue(directory)
for turn in range(1000):
    file.write_bytes(b"model %d" % turn)
    digest, size = catalogue.store(file)
    row = catalogue.add(Version("pump", "", sha256=digest, size=size))
    catalogue.activate("pump", row.version)
    catalogue.collect(2)
    print(row.version, flush=True)
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "models", clock=ManualClock(7))


def put(catalogue: Catalogue, name: str = "pump", version: str = "", content: bytes = b"") -> Version:
    file = catalogue.directory.parent / "some.onnx"
    file.write_bytes(content or f"{name} {version} {len(catalogue.versions())}".encode())
    digest, size = catalogue.store(file)
    return catalogue.add(Version(name, version, sha256=digest, size=size))


def test_a_version_is_staged_numbered_and_kept_by_its_content(catalogue: Catalogue) -> None:
    first, second = put(catalogue), put(catalogue)
    assert [row.reference for row in (first, second, put(catalogue, version="v9"), put(catalogue))] == [
        "pump@1", "pump@2", "pump@v9", "pump@3",
    ]  # fmt: skip
    assert (first.state, first.added) == ("staged", 7)
    assert catalogue.path(first).read_bytes() == b"pump  0"
    assert Catalogue(catalogue.directory).versions() == catalogue.versions()
    with pytest.raises(ConfigError, match="no active version"):
        catalogue.find("pump")
    with pytest.raises(RejectedError, match="pump@2 is there already"):
        put(catalogue, version="2")
    with pytest.raises(RejectedError, match="cannot be called active"):
        put(catalogue, version="active")
    with pytest.raises(ConfigError, match="not a model name"):
        put(catalogue, name="a@b")


def test_activate_and_rollback_move_the_pointer(catalogue: Catalogue) -> None:
    for _ in range(3):
        put(catalogue)
    for version in ("1", "2", "3"):
        assert catalogue.activate("pump", version).state == "active"
    assert [row.state for row in catalogue.versions("pump")] == ["retired", "retired", "active"]
    assert catalogue.rollback("pump", "it answers NaN").version == "2"
    failed = catalogue.find("pump@3")
    assert (failed.state, failed.reason) == ("failed", "it answers NaN")
    assert catalogue.rollback("pump").version == "1"
    assert catalogue.find("pump@active").version == "1"
    catalogue.activate("pump", "3")
    assert catalogue.find("pump@3").state == "active"


def test_rollback_without_an_earlier_version_is_refused(catalogue: Catalogue) -> None:
    put(catalogue)
    catalogue.activate("pump", "1")
    with pytest.raises(RejectedError, match="no earlier version"):
        catalogue.rollback("pump")
    put(catalogue)
    catalogue.activate("pump", "2")
    catalogue.fail("pump", "1", "slow")
    with pytest.raises(RejectedError, match="no earlier version"):
        catalogue.rollback("pump")


def test_the_configurations_versions_are_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"a")
    configs = [ModelConfig("pump", "a.onnx", "1", max_batch=8)]
    catalogue = Catalogue(tmp_path / "models", configs, tmp_path)
    assert catalogue.find("pump").state == "active"
    assert put(catalogue).reference == "pump@2"
    catalogue.activate("pump", "2")
    rows = catalogue.configs()
    assert [(row.version, row.active, row.max_batch) for row in rows] == [("1", False, 8), ("2", True, 8)]
    assert rows[0].file == str(tmp_path / "a.onnx")
    assert Models(rows, Path("/")).find("pump").version == "2"
    assert catalogue.rollback("pump").version == "1"
    with pytest.raises(RejectedError, match="in the configuration"):
        catalogue.remove("pump", "1")
    # a table that was taken out of the file leaves no pointer to nothing
    assert Catalogue(tmp_path / "models").active("pump") is None


def test_remove_and_shadow(catalogue: Catalogue) -> None:
    first, second = put(catalogue, content=b"same"), put(catalogue, content=b"same")
    catalogue.activate("pump", "1")
    catalogue.shadow("pump", "2")
    shadow = catalogue.shadow_of("pump")
    assert shadow is not None
    assert shadow.version == "2"
    for call in (lambda: catalogue.remove("pump", "1"), lambda: catalogue.shadow("pump", "1")):
        with pytest.raises(RejectedError, match="active"):
            call()
    catalogue.remove("pump", "2")
    assert catalogue.shadow_of("pump") is None
    assert catalogue.path(first).is_file(), "another version has the same file"
    assert second.sha256 == first.sha256
    with pytest.raises(ConfigError, match="no version '2'"):
        catalogue.find("pump@2")
    with pytest.raises(ConfigError, match="did you mean 'pump'"):
        catalogue.find("pmup")


def test_collect_keeps_the_last_and_what_is_in_use(catalogue: Catalogue) -> None:
    for _ in range(8):
        put(catalogue)
    for version in ("1", "2"):
        catalogue.activate("pump", version)
    catalogue.shadow("pump", "4")
    (catalogue.directory / "blobs" / ".1-2.part").write_bytes(b"half")
    assert catalogue.collect(keep=2, pinned=["pump@5"]) == ["pump@3", "pump@6"]
    assert [row.version for row in catalogue.versions()] == ["1", "2", "4", "5", "7", "8"]
    assert len(list((catalogue.directory / "blobs").iterdir())) == 6
    assert catalogue.collect(keep=2) == ["pump@5"]


def test_an_index_that_is_damaged_is_named(catalogue: Catalogue) -> None:
    put(catalogue)
    index = catalogue.directory / "index.json"
    for content, text in (
        (b'{"versions": 5}', "not what was written"),
        (b"{", "not what was written"),
        (b'{"format": 9}', "format 9"),
    ):
        index.write_bytes(content)
        with pytest.raises(CorruptError, match=text):
            Catalogue(catalogue.directory)


def whole(directory: Path) -> int:
    """The catalogue opens, every version has its whole file, and it can be worked on: the number of versions found."""
    catalogue = Catalogue(directory)
    rows = catalogue.versions()
    for row in rows:
        assert catalogue.path(row).stat().st_size == row.size
    put(catalogue, name="after")
    catalogue.collect(2)
    return len(rows)


def test_killed_at_each_step_it_opens(tmp_path: Path) -> None:
    steps = [*range(1, 28, 2), 60]
    for at in steps:
        directory = tmp_path / str(at) / "models"
        directory.parent.mkdir()
        arguments = [sys.executable, "-c", WORK, str(directory), str(tmp_path / "new.onnx"), str(at)]
        done = subprocess.run(arguments, capture_output=True, timeout=30, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        whole(directory)


def test_killed_at_random_moments_it_opens(tmp_path: Path) -> None:
    moments = random.Random(4)
    directory = tmp_path / "models"
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", WORK, str(directory), str(tmp_path / "new.onnx"), "0"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        told = child.stdout.readline().strip()
        time.sleep(moments.uniform(0, 0.05))
        child.kill()
        told = (child.stdout.read().split() or [told])[-1]
        child.stdout.close()
        child.wait()
        active = Catalogue(directory).active("pump")
        assert active is not None
        assert int(active.version) >= int(told), "what was told to be active is active"
        assert whole(directory) >= 1


def test_stage_and_activate_with_real_models(catalogue: Catalogue, make_model: MakeModel, tmp_path: Path) -> None:
    outputs = [("score", FLOAT, ["N", 3])]
    good = make_model([helper.make_node("Identity", ["x"], ["score"])], outputs, metadata={"labels": '["a"]', "threshold": "0.5"})
    row = stage(catalogue, "pump", good, features=("f1",))
    assert (row.state, row.version, row.labels, row.threshold, row.features) == ("staged", "1", ("a",), 0.5, ("f1",))
    assert activate(catalogue, "pump", "1").state == "active"
    bad = make_model([helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["z", "z"], ["score"])], outputs)
    assert stage(catalogue, "pump", bad).nan
    with pytest.raises(RejectedError, match="NaN where the active version does not; pump@1 stays active"):
        activate(catalogue, "pump", "2")
    assert (catalogue.find("pump").version, catalogue.find("pump@2").state) == ("1", "failed")
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(SkerryError, match="no ONNX file"):
        stage(catalogue, "pump", tmp_path / "no.onnx")
    assert len(catalogue.versions()) == 2
    assert json.loads((catalogue.directory / "index.json").read_bytes())["active"] == {"pump": "1"}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, ""),
        ({"inputs": (Tensor("y", "float32", (None, 3)),)}, "inputs"),
        ({"outputs": ()}, "no output score"),
        ({"latency_ms": 9.0}, "9.00 ms a run"),
        ({"latency_ms": 2.9}, ""),
        ({"nan": True}, "NaN"),
    ],
)
def test_a_version_is_held_to_what_the_active_one_showed(more: dict[str, object], text: str) -> None:
    tensors = {"inputs": (Tensor("x", "float32", (None, 3)),), "outputs": (Tensor("score", "float32", (None, 1)),)}
    active = Version("pump", "1", latency_ms=1.0, **tensors)
    found = misfit(active, Report(**{"latency_ms": 1.0, **tensors, **more}))  # type: ignore[arg-type]  # fields of all types by name
    assert text in found
    assert bool(text) == bool(found)
