"""The site's key: made once, for its owner only, and never silently another."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skerry.core.errors import CorruptError, UnavailableError
from skerry.uplink.key_file import FILE, site_key


def test_it_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    key = site_key(folder)
    assert len(key) == 32
    assert site_key(folder) == key != site_key(tmp_path / "other")
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_preview_makes_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert len(site_key(folder, make=False)) == 32
    assert not folder.exists()
    assert site_key(folder) == site_key(folder, make=False)


def test_of_several_that_make_it_at_once_all_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(site_key, [tmp_path] * 32))) == 1


def test_a_file_that_is_no_key_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"short")
    with pytest.raises(CorruptError, match="5 bytes are no key of 32"):
        site_key(tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"short"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match="cannot be had"):
        site_key(tmp_path / "file")
