"""The bundles of a node on disk: killed before any write, the state is wholly the old one or wholly the new one."""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.bundle import BundleFile, Shelf
from skerry.bundle.shelf import HISTORY
from skerry.core.clock import ManualClock
from skerry.core.errors import CorruptError, RejectedError
from skerry.trust import SigningKey
from tests.bundle.rig import built, signed

KEY = SigningKey.new()
WRITES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
MINUTE = 60_000_000


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "bundles", ManualClock(1_000_000))


def bundle(folder: Path, content: bytes = b"model one", name: str = "plant") -> BundleFile:
    return signed(built(folder, content, name), KEY)


def put(shelf: Shelf, folder: Path, content: bytes = b"model one", name: str = "plant") -> str:
    return shelf.install(bundle(folder / name / content.hex()[:8], content, name), [KEY.public])


def killed_before(number: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that is killed before its n-th change of the disk; False where it was done before that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that other tests left: the child uses none
        child = os.fork()
    if not child:
        seen = 0

        def hook(event: str, _: tuple[object, ...]) -> None:
            nonlocal seen
            if event in WRITES:
                seen += 1
                if seen > number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_bundle_is_taken_in_once_and_lies_there_as_it_was_signed(shelf: Shelf, tmp_path: Path) -> None:
    first = put(shelf, tmp_path)
    assert put(shelf, tmp_path) == first
    assert shelf.ids() == [first]
    assert shelf.verify(first, [KEY.public])
    assert [row["state"] for row in shelf.rows()] == ["stored"]
    assert shelf.read().active == ""
    other = SigningKey.new()
    with pytest.raises(RejectedError, match="not trusted here"):
        shelf.verify(first, [other.public])
    again = signed(bundle(tmp_path / "again"), other)
    assert shelf.install(again, [other.public]) == first
    assert shelf.verify(first, [other.public])  # who has signed it meanwhile counts


def test_what_is_refused_leaves_nothing_behind(shelf: Shelf, tmp_path: Path) -> None:
    good = bundle(tmp_path)
    with pytest.raises(RejectedError, match="not trusted"):
        shelf.install(good, [SigningKey.new().public])
    data = good.path.read_bytes()
    good.path.write_bytes(data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])
    with pytest.raises(CorruptError):
        shelf.install(BundleFile(good.path), [KEY.public])
    assert [path for path in tmp_path.rglob("*") if path.is_relative_to(shelf.directory) and path != shelf.directory] == []


def test_what_was_changed_where_it_lies_is_found(shelf: Shelf, tmp_path: Path) -> None:
    first = put(shelf, tmp_path)
    model = next((shelf.folder(first) / "models").iterdir())
    model.write_bytes(b"model 1ne")
    with pytest.raises(CorruptError, match="is not the model that was signed"):
        shelf.verify(first, [KEY.public])
    manifest = shelf.folder(first) / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"p"', b'"q"'))
    with pytest.raises(CorruptError, match="is not the manifest that was applied"):
        shelf.manifest(first)


def test_kept_rolled_back_and_back_again(shelf: Shelf, tmp_path: Path) -> None:
    one, two = put(shelf, tmp_path), put(shelf, tmp_path, b"model two", "other")
    shelf.switch(one, MINUTE)
    assert (shelf.read().active, shelf.before()) == (one, "")
    shelf.keep()
    shelf.switch(two, MINUTE)
    assert {row["id"]: row["state"] for row in shelf.rows()} == {one: "stored", two: "on probation"}
    assert shelf.take_back("it is worse") == one
    shelf.switch(two, MINUTE)
    shelf.keep()
    assert shelf.before() == one
    assert shelf.rollback("why not") == one
    assert shelf.rollback("why not") == ""
    with pytest.raises(RejectedError, match="no bundle is active"):
        shelf.rollback("why not")
    told = [(row["bundle"], row["what"], row["reason"]) for row in shelf.read().history]
    assert told[:2] == [("plant 1", "switched to, on probation", ""), ("plant 1", "kept", "")]
    assert told[3] == ("other 1", "rolled back", "it is worse")
    assert told[-2:] == [("other 1", "rolled back", "why not"), ("plant 1", "rolled back", "why not")]


def test_a_start_takes_an_unfinished_trial_back_and_clears_drafts(shelf: Shelf, tmp_path: Path) -> None:
    one, two = put(shelf, tmp_path), put(shelf, tmp_path, b"model two", "other")
    assert shelf.settle() == ""
    shelf.switch(one, MINUTE)
    shelf.keep()
    shelf.switch(two, MINUTE)
    (shelf.directory / ".draft-x").mkdir()
    (shelf.directory / ".draft-0").write_bytes(b"half")
    assert "the node ended within the probation" in shelf.settle()
    assert (shelf.read().active, shelf.read().trial) == (one, None)
    assert shelf.settle() == ""
    assert [path.name for path in shelf.directory.glob(".draft*")] == []


def test_killed_before_any_write_of_taking_in_it_is_there_whole_or_not_at_all(shelf: Shelf, tmp_path: Path) -> None:
    file = bundle(tmp_path)
    number = 0
    while killed_before(number, lambda: shelf.install(file, [KEY.public])):
        shelf.settle()
        assert [path.name for path in shelf.directory.glob(".draft*")] == []
        for each in shelf.ids():
            assert shelf.verify(each, [KEY.public])
        number += 1
    assert number > 8
    assert shelf.ids() == [file.id]


@pytest.mark.parametrize("what", ["switch", "keep", "take back", "roll back"])
def test_killed_before_any_write_of_a_change_the_state_is_the_old_or_the_new_one(shelf: Shelf, tmp_path: Path, what: str) -> None:
    one, two = put(shelf, tmp_path), put(shelf, tmp_path, b"model two", "other")
    work = {
        "switch": lambda: shelf.switch(two, MINUTE),
        "keep": shelf.keep,
        "take back": lambda: shelf.take_back("worse"),
        "roll back": lambda: shelf.rollback("worse"),
    }[what]
    shelf.switch(one, MINUTE)
    shelf.keep()
    if what != "switch":
        shelf.switch(two, MINUTE)
    if what == "roll back":
        shelf.keep()
    before = (shelf.directory / "state.json").read_bytes()
    number, seen = 0, set()
    while killed_before(number, work):
        state = shelf.read()
        seen.add((state.active, state.trial is None))
        for each in (one, two):
            assert shelf.verify(each, [KEY.public])
        settled = Shelf(shelf.directory)
        settled.settle()
        assert settled.read().active in {"switch": (one,), "keep": (one, two), "take back": (one,), "roll back": (one, two)}[what]
        (shelf.directory / "state.json").write_bytes(before)
        number += 1
    assert len(seen) == 2  # the kill came on either side of the one rename


def test_old_bundles_go_and_what_is_needed_stays(shelf: Shelf, tmp_path: Path) -> None:
    ids = []
    for at in range(6):
        ids.append(put(shelf, tmp_path, f"model {at}".encode()))
        os.utime(shelf.folder(ids[-1]), (at, at))
    assert shelf.ids() == ids[::-1]
    shelf.switch(ids[0], MINUTE)
    shelf.keep()
    shelf.switch(ids[1], MINUTE)
    shelf.collect(1)
    assert shelf.ids() == [ids[5], ids[1], ids[0]]
    shelf.keep()
    shelf.collect(1)
    assert shelf.ids() == [ids[5], ids[1], ids[0]]
    shelf.rollback("no")
    assert shelf.read().active == ids[0]


def test_a_bundle_is_found_by_its_beginning_or_its_name(shelf: Shelf, tmp_path: Path) -> None:
    one, two = put(shelf, tmp_path), put(shelf, tmp_path, b"model two", "other")
    assert shelf.find(one[:6]) == one
    assert shelf.find("other") == shelf.find("other 1") == two
    for text in ("", "nowhere", "../x", one + "0"):
        with pytest.raises(RejectedError, match="there is no bundle"):
            shelf.find(text)


def test_the_history_has_an_end_and_a_damaged_state_is_told_of(shelf: Shelf, tmp_path: Path) -> None:
    one = put(shelf, tmp_path)
    for at in range(HISTORY + 5):
        shelf.refused(one, f"reason {at}")
    history = shelf.read().history
    assert (len(history), history[-1]["reason"]) == (HISTORY, f"reason {HISTORY + 4}")
    (shelf.directory / "state.json").write_text("{")
    with pytest.raises(CorruptError, match=r"state\.json: is not what was written"):
        shelf.read()
    (shelf.directory / "state.json").write_text('{"format": 7}')
    with pytest.raises(CorruptError, match="has format 7"):
        shelf.read()


def test_a_bundle_that_is_handed_on_is_the_one_that_came_with_all_who_signed_it(shelf: Shelf, tmp_path: Path) -> None:
    came = bundle(tmp_path / "made")
    given = shelf.install(came, [KEY.public])
    shelf.pack(given, tmp_path / "handed-on.bundle")
    again = BundleFile(tmp_path / "handed-on.bundle")
    assert (again.id, again.data, again.signatures) == (came.id, came.data, came.signatures)
    assert again.path.read_bytes() == came.path.read_bytes()
    other = Shelf(tmp_path / "elsewhere", ManualClock(1_000_000))
    assert other.install(again, [KEY.public]) == given
    assert other.verify(given, [KEY.public])
    with pytest.raises(RejectedError, match="not trusted here"):
        Shelf(tmp_path / "stranger", ManualClock(1_000_000)).install(again, [SigningKey.new().public])


def test_what_changed_on_the_disk_is_not_handed_on(shelf: Shelf, tmp_path: Path) -> None:
    given = put(shelf, tmp_path)
    (model,) = (shelf.folder(given) / "models").iterdir()
    model.write_bytes(b"another one")
    with pytest.raises(RejectedError, match="changed while the bundle was made"):
        shelf.pack(given, tmp_path / "handed-on.bundle")
    assert not (tmp_path / "handed-on.bundle").exists()
    assert list(tmp_path.glob(".*.part")) == []
