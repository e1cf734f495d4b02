"""Files that are replaced whole."""

from pathlib import Path

import pytest

from skerry.core.files import replace_synced, sync_names


def test_what_was_there_is_replaced_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"old")
    file.chmod(0o644)
    replace_synced(file, b"new")
    sync_names(tmp_path)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o600)
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_what_a_crash_or_somebody_left_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / ".a.json.new").symlink_to(victim)
    replace_synced(tmp_path / "a.json", b"new")
    assert (victim.read_bytes(), (tmp_path / "a.json").read_bytes()) == (b"mine", b"new")


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_synced(tmp_path / "a.json", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(OSError, match="No such file"):
        sync_names(tmp_path / "nowhere")
