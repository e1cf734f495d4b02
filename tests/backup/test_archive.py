"""The backup file: whole or refused. Every flipped bit, every cut, every name that leads elsewhere."""

import hashlib
import io
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard

from skerry.backup import Header, Reader
from skerry.backup.archive import _BEGIN, _END, MANIFEST, Manifest, Member, Writer, _skippable, safe_name
from skerry.core.errors import CorruptError, RejectedError, SkerryError, UnavailableError

HEADER = Header(1, "rock", "sea", "0.1.0", "2026-12-01T00:00:00.000Z")


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "a.backup"
    with Writer(path, HEADER) as writer:
        writer.data("data/uptime.json", b"{}")
        writer.data("data/empty", b"")
        writer.data("history/db/000001.sst", random.Random(1).randbytes(300_000))
        assert writer.close() == path.stat().st_size
    return path


def forged(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], header: bytes = b"") -> Path:
    """A file with all digests right, whatever is in it."""
    tar = io.BytesIO()
    listed = []
    for info, content in members:
        info.size = len(content) if info.isreg() else 0
        tar.write(info.tobuf(tarfile.GNU_FORMAT) + (content + bytes(-len(content) % 512) if info.isreg() else b""))
        listed.append(Member(info.name, info.size, hashlib.sha256(content).hexdigest()))
    text = msgspec.json.encode(Manifest(members=listed))
    last = tarfile.TarInfo(MANIFEST)
    last.size = len(text)
    tar.write(last.tobuf() + text + bytes(-len(text) % 512) + bytes(1024))
    body = _skippable(_BEGIN + (header or msgspec.json.encode(HEADER))) + zstandard.compress(tar.getvalue())
    path.write_bytes(body + _skippable(_END + hashlib.sha256(body).digest()))
    return path


def test_what_is_written_is_read(backup: Path) -> None:
    reader = Reader(backup)
    manifest = reader.verify()
    assert reader.header == HEADER
    assert [member.name for member in manifest.members] == ["data/uptime.json", "data/empty", "history/db/000001.sst"]
    found = {name: b"".join(read()) for name, _, read in reader.members()}
    assert found["data/uptime.json"] == b"{}"
    assert found["history/db/000001.sst"] == random.Random(1).randbytes(300_000)
    assert backup.stat().st_mode & 0o777 == 0o600


def test_tar_and_zstd_can_read_it(backup: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("optional: zstd is not here")
    plain = subprocess.run(["zstd", "-dcq", str(backup)], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert tar.getnames()[-1] == MANIFEST


def test_every_flipped_bit_is_seen(backup: Path, tmp_path: Path) -> None:
    whole, dice = backup.read_bytes(), random.Random(2)
    places = [*range(40), *range(len(whole) - 70, len(whole)), *(dice.randrange(len(whole)) for _ in range(100))]
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= 1 << dice.randrange(8)
        with pytest.raises((CorruptError, RejectedError)):
            Reader(written(tmp_path, bytes(changed))).verify()


@pytest.mark.parametrize("content", [b'{"members": [{"name": "\xad"}]}', b"{", b"[]"])
def test_a_manifest_that_cannot_be_read_is_corrupt(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CorruptError, match="its manifest cannot be read"):
        Reader(forged(tmp_path / "forged", [(tarfile.TarInfo(MANIFEST), content)])).verify()


def test_what_is_cut_off_or_longer_is_refused(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    for size in (0, 1, 8, 100, len(whole) // 2, len(whole) - 1):
        with pytest.raises((CorruptError, RejectedError)):
            Reader(written(tmp_path, whole[:size])).verify()
    with pytest.raises(CorruptError):
        Reader(written(tmp_path, whole + b"x")).verify()


def written(folder: Path, content: bytes) -> Path:
    path = folder / "b.backup"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name",
    ["../x", "data/../../x", "/etc/passwd", "data//x", "data/./x", "elsewhere/x", "data/a\nb", "data/a\\b", "", "data" + "/a" * 40],
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="no backup has"):
        safe_name(name)
    if name:
        with pytest.raises(CorruptError):
            Reader(forged(tmp_path / "f", [(tarfile.TarInfo(name), b"x")])).verify()


def _link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("data/link")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.XHDTYPE])
def test_nothing_but_regular_files_is_taken(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="no regular file"):
        Reader(forged(tmp_path / "f", [(_link(kind), b"")])).verify()


def test_a_good_forgery_would_pass(tmp_path: Path) -> None:
    assert Reader(forged(tmp_path / "f", [(tarfile.TarInfo("data/x"), b"y")])).verify().size == 1


def test_one_member_twice_is_refused(tmp_path: Path) -> None:
    twice = [(tarfile.TarInfo("data/x"), b"y"), (tarfile.TarInfo("data/x"), b"z")]
    with pytest.raises(CorruptError, match="does not name"):
        Reader(forged(tmp_path / "f", twice)).verify()


def test_a_newer_format_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    header = msgspec.json.encode({"format": 2, "version": "9.1", "what": "ever"})
    with pytest.raises(RejectedError, match="has format 2, this version reads 1") as caught:
        Reader(forged(tmp_path / "f", [], header))
    assert "skerry 9.1 or later" in str(caught.value)


def _nothing(_: Writer) -> None:
    raise RuntimeError


def _gone(writer: Writer) -> None:
    writer.file("data/x", Path("nowhere"), needed=False)
    raise RuntimeError


def _missed(writer: Writer) -> None:
    try:
        writer.file("data/x", Path("nowhere"))
    except UnavailableError as error:
        raise RuntimeError from error


@pytest.mark.parametrize("fails", [_nothing, _gone, _missed])
def test_what_ends_early_leaves_nothing(fails: Callable[[Writer], None], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Writer(tmp_path / "a", HEADER) as writer:
        fails(writer)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays(backup: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(RejectedError, match="is there already"):
        Writer(backup, HEADER)
    assert backup.read_bytes() == before


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(SkerryError, match="cannot be made"):
        Writer(tmp_path / "no" / "such" / "a", HEADER)
