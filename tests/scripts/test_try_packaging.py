"""What `scripts/try_packaging.py` reads and does with files; the chroots it makes take minutes and are made by hand."""

import subprocess
from pathlib import Path

import pytest

from scripts import try_packaging
from scripts.try_packaging import Image, steps


def test_the_container_file_is_steps() -> None:
    found = steps(try_packaging.FILE.read_text("utf-8"))
    assert [rest.partition(" AS ")[2] for step, rest in found if step == "FROM"] == ["build", ""]
    with pytest.raises(ValueError, match="no step"):
        steps("FROM x\n  && indented\n")


def test_what_a_step_sets(tmp_path: Path) -> None:
    image = Image(tmp_path, [])
    for step, rest in (("ENV", "A=b=c"), ("WORKDIR", "/src"), ("USER", "skerry"), ("CMD", '["run"]')):
        image.do(step, rest, {})
    assert image.env["A"] == "b=c"
    assert image.told == {"USER": "skerry", "CMD": '["run"]'}
    assert (tmp_path / "src").is_dir()


def test_copies_go_where_an_engine_puts_them(tmp_path: Path) -> None:
    build, final = Image(tmp_path / "build", []), Image(tmp_path / "final", [])
    build.do("WORKDIR", "/src", {})
    build.do("COPY", "requirements/run.txt requirements/run.txt", {})
    build.do("COPY", "README.md LICENSE ./", {})
    build.do("COPY", "packaging packaging", {})
    src = tmp_path / "build" / "src"
    assert (src / "requirements/run.txt").is_file()
    assert (src / "README.md").is_file()
    assert (src / "LICENSE").is_file()
    assert (src / "packaging/skerry.service").is_file()
    final.do("COPY", "--from=build /src /opt/there", {"build": build})
    assert (tmp_path / "final/opt/there/README.md").is_file()


def test_the_command_line_of_a_step(tmp_path: Path) -> None:
    image = Image(tmp_path, [])
    image.do("ENV", "PATH=/opt/skerry/bin:/bin", {})
    argv = image.argv(["skerry", "run"], user="skerry", network=False)
    assert argv[:6] == ["unshare", "-m", "-p", "-f", "--kill-child", "-n"]
    assert f"chroot --userspec=skerry {tmp_path}" in argv[-1]
    assert "PATH=/opt/skerry/bin:/bin" in argv[-1]
    assert "-n" not in image.argv(["true"])[:6]
    assert subprocess.run(["sh", "-n", "-c", argv[-1]], check=False).returncode == 0
