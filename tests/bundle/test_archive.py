"""The bundle file: the same input gives the same bytes, and whatever is not what was packed is refused."""

import io
import random
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from skerry.bundle import BundleFile, Signatures
from skerry.bundle.archive import write_bundle
from skerry.bundle.manifest import FORMAT, Manifest, Member, check_manifest, check_needs, encode_manifest
from skerry.core.errors import CorruptError, RejectedError, SkerryError
from tests.bundle.rig import PIPELINE, built, project

FRAME = struct.Struct("<II")


def frames(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Manifest frame, signature frame, and the rest."""
    first = FRAME.size + FRAME.unpack_from(data)[1]
    second = first + FRAME.size + FRAME.unpack_from(data, first)[1]
    return data[:first], data[first:second], data[second:]


def rewritten(file: BundleFile, body: bytes) -> BundleFile:
    manifest, signatures, _ = frames(file.path.read_bytes())
    file.path.write_bytes(manifest + signatures + body)
    return BundleFile(file.path)


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return zstandard.compress(out.getvalue())


def test_the_same_project_gives_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    one, two = built(tmp_path / "here"), built(tmp_path / "over" / "there")
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.id == two.id
    assert built(tmp_path / "else", b"model two").id != one.id


def test_a_pipeline_is_pinned_to_the_version_that_runs_and_nothing_else_is_taken_along(tmp_path: Path) -> None:
    file = built(tmp_path)
    assert [table["model"] for table in file.manifest.pipelines] == ["m@2"]
    assert [(table["name"], table["version"], table["labels"]) for table in file.manifest.models] == [("m", "2", ["no", "yes"])]
    assert len(file.manifest.members) == 1
    assert PIPELINE["model"] == "m"  # what was given is not changed
    alone = built(tmp_path / "alone", pipelines=[])
    assert [table["version"] for table in alone.manifest.models] == ["2"]  # of a model without a pipeline: the active one
    pinned = built(tmp_path / "pinned", pipelines=[{**PIPELINE, "model": "m@1"}])
    assert [table["version"] for table in pinned.manifest.models] == ["1"]


def test_only_a_bundle_is_written_over(tmp_path: Path) -> None:
    file = built(tmp_path)
    file.path.write_text("[node]")  # as `skerry bundle build skerry.toml` would have it
    with pytest.raises(RejectedError, match="is there already, and is no bundle; name another file"):
        built(tmp_path)
    assert file.path.read_text() == "[node]"
    file.path.unlink()
    assert built(tmp_path).id == built(tmp_path).id


def test_any_tar_and_zstd_can_read_it(tmp_path: Path) -> None:
    file = built(tmp_path)
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(frames(file.path.read_bytes())[2])
    listed = subprocess.run(["tar", "-tf", "-"], input=plain, capture_output=True, check=True).stdout.decode().split()
    assert listed == [member.name for member in file.manifest.members]


def test_it_is_unpacked_as_it_was_packed(tmp_path: Path) -> None:
    content = random.Random(5).randbytes(2_500_001)
    file = built(tmp_path, content)
    file.check()
    out = tmp_path / "out"
    out.mkdir()
    file.unpack(out)
    assert [(out / member.name).read_bytes() for member in file.manifest.members] == [content]
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [Path(file.manifest.members[0].name).name]


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    path = built(tmp_path, random.Random(1).randbytes(900)).path
    whole = path.read_bytes()
    told = BundleFile(path).id
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :])
        try:
            found = BundleFile(path)
            found.check()
        except SkerryError:
            continue
        # what can be read is another manifest (which no signature fits), other signatures, or zstd's own slack
        assert found.id != told or frames(path.read_bytes())[1] != frames(whole)[1] or found.manifest == check_manifest(found.data)


def test_every_cut_is_found(tmp_path: Path) -> None:
    path = built(tmp_path).path
    whole = path.read_bytes()
    slack = 4  # zstd's own checksum at the end: without it all content is there, and has been held against its digests
    for size in range(0, len(whole) - slack, 2):
        path.write_bytes(whole[:size])
        with pytest.raises((CorruptError, RejectedError)):
            BundleFile(path).check()


def test_a_hostile_tar_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    file = built(tmp_path)
    name = file.manifest.members[0].name

    def info(name: str, **given: object) -> tarfile.TarInfo:
        made = tarfile.TarInfo(name)
        made.mode = 0o644
        for key, value in given.items():
            setattr(made, key, value)
        return made

    hostile = [
        [(info("../../etc/passwd"), b"model one")],
        [(info("/etc/passwd"), b"model one")],
        [(info(name, type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")],
        [(info(name, type=tarfile.LNKTYPE, linkname="/etc/passwd"), b"")],
        [(info(name, type=tarfile.CHRTYPE), b"")],
        [(info(name, mode=0o4755), b"model one")],
        [(info(name), b"model 0ne")],
        [(info(name), b"model one"), (info("more"), b"x")],
        [(info("models/x"), b"first"), (info(name), b"model one")],
        [],
    ]
    for members in hostile:
        changed = rewritten(file, tarred(*members))
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        with pytest.raises(CorruptError, match="damaged, or was changed"):
            changed.check()
    assert rewritten(file, tarred((info(name), b"model one"))).manifest == file.manifest


def test_a_bomb_is_read_no_further_than_the_manifest_says(tmp_path: Path) -> None:
    bomb = zstandard.compress(bytes(1 << 30))
    assert len(bomb) < 1 << 20
    with pytest.raises(CorruptError, match="does not name"):
        rewritten(built(tmp_path), bomb).check()


def test_what_stands_behind_the_end_is_refused(tmp_path: Path) -> None:
    file = built(tmp_path)
    body = frames(file.path.read_bytes())[2]
    for more in (b"x", zstandard.compress(b"more")):
        with pytest.raises(CorruptError):
            rewritten(file, body + more).check()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", bytes(100), b"\x5e\x2a\x4d\x18\xff\xff\xff\x7fskerry-bundle\n"])
def test_other_files_are_no_bundles(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(RejectedError, match="is no bundle of skerry"):
        BundleFile(path)
    with pytest.raises(RejectedError, match="cannot be read"):
        BundleFile(tmp_path / "nowhere")


def manifest(**given: object) -> Manifest:
    member = Member("a" * 64, 3)
    found = {
        "format": FORMAT, "name": "n", "version": "1", "needs": "0.1.0", "models": [{"name": "m", "file": member.name}],
        "pipelines": [], "connectors": [], "members": [member], **given,
    }  # fmt: skip
    return Manifest(**found)  # type: ignore[arg-type]  # the cases below are wrong on purpose


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"members": [Member("A" * 64, 3)], "models": [{"file": f"models/{'A' * 64}.onnx"}]}, "no digest"),
        ({"members": [Member("../../x", 3)], "models": [{"file": "models/../../x.onnx"}]}, "no digest"),
        ({"members": [Member("a" * 64, -1)]}, "size that none may have"),
        ({"members": [Member("a" * 64, 5 << 30)]}, "size that none may have"),
        ({"members": []}, "its models are not its members"),
        ({"models": [{"name": "m", "file": "/etc/passwd"}]}, "its models are not its members"),
        ({"members": [Member("b" * 64, 1), Member("a" * 64, 1)]}, "not sorted"),
        ({"name": "../x"}, "is no name"),
        ({"needs": "soon"}, "no version of skerry"),
    ],
)
def test_a_manifest_that_holds_together_badly_is_refused(given: dict[str, object], why: str) -> None:
    with pytest.raises(CorruptError, match=why):
        encode_manifest(manifest(**given))


def test_a_newer_format_and_a_newer_skerry_are_told_of() -> None:
    with pytest.raises(RejectedError, match=r"has format 9, this version reads 1; use skerry 0\.1\.0"):
        encode_manifest(manifest(format=9))
    check_needs("0.1", "0.1.0")
    check_needs("0.1.0", "0.2.0rc1")
    with pytest.raises(RejectedError, match=r"needs skerry 0\.10\.0 or later, this is 0\.9\.3"):
        check_needs("0.10.0", "0.9.3")


def test_what_json_cannot_carry_is_refused_when_it_is_built(tmp_path: Path) -> None:
    endless = {**PIPELINE, "rule": {"above": float("inf")}}
    with pytest.raises(RejectedError, match="a value that a bundle cannot carry"):
        built(tmp_path, pipelines=[endless])
    assert list(tmp_path.glob("*.bundle*")) == []


def test_a_model_that_changes_meanwhile_leaves_no_bundle(tmp_path: Path) -> None:
    file = built(tmp_path)
    before = file.path.read_bytes()
    model = project(tmp_path / "project").base / "m.onnx"
    model.write_bytes(b"model 1ne")
    with pytest.raises(RejectedError, match="changed while the bundle was made"):
        write_bundle(file.path, file.data, Signatures(), {file.manifest.members[0].sha256: model})
    assert file.path.read_bytes() == before
    assert list(tmp_path.glob(".*")) == []
