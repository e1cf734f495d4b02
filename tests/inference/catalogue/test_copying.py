"""A copy of the catalogue by hard links: whole, and never waited for without a bound."""

import fcntl
from pathlib import Path

import pytest

from skerry.core.errors import UnavailableError
from skerry.inference import Catalogue, copy_catalogue
from skerry.inference.catalogue import index
from skerry.inference.catalogue.version import Version


def test_index_and_files_are_there_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"a model")
    catalogue = Catalogue(tmp_path / "models")
    digest, size = catalogue.store(tmp_path / "m.onnx")
    catalogue.add(Version("m", "", sha256=digest, size=size))
    (catalogue.blobs / ".1-2.part").write_bytes(b"half")
    copy_catalogue(tmp_path / "models", tmp_path / "copy")
    assert [version.reference for version in Catalogue(tmp_path / "copy").versions()] == ["m@1"]
    assert [file.name for file in (tmp_path / "copy" / "blobs").iterdir()] == [digest]


def test_a_writer_that_stands_still_does_not_hold_up_a_backup_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_LOCK_WAIT_S", 0.1)
    (tmp_path / "models").mkdir()
    with (tmp_path / "models" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match="another skerry is writing the catalogue"):
            copy_catalogue(tmp_path / "models", tmp_path / "copy")
