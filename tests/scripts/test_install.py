"""packaging/install.sh into a directory of its own: what it makes, that it may run again, and what it leaves behind."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "packaging" / "install.sh"


def run(*arguments: object, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the environment in it that this test runs in."""
    program = tmp_path / "root" / "opt" / "skerry" / "bin" / "skerry"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m skerry.cli "$@"\n')
    program.chmod(0o755)
    return tmp_path / "root"


def test_what_it_makes_and_that_what_is_configured_stays(root: Path) -> None:
    first = run("--root", root, "--ready-made")
    assert first.returncode == 0, first.stderr
    toml = root / "etc/skerry/skerry.toml"
    assert tomllib.loads(toml.read_text("utf-8"))["node"]["data_dir"] == str(root / "var/lib/skerry")
    assert (root / "etc/systemd/system/skerry.service").read_bytes() == (ROOT / "packaging/skerry.service").read_bytes()
    modes = {name: (root / name).stat().st_mode & 0o777 for name in ("var/lib/skerry", "etc/skerry/skerry.toml")}
    assert modes == {"var/lib/skerry": 0o700, "etc/skerry/skerry.toml": 0o640}
    assert (root / "usr/local/bin/skerry").resolve() == (root / "opt/skerry/bin/skerry").resolve()
    assert (root / "usr/local/share/man/man1/skerry.1").read_bytes() == (ROOT / "packaging/skerry.1").read_bytes()
    assert "complete -o default" in (root / "usr/local/share/bash-completion/completions/skerry").read_text("utf-8")
    assert sorted(path.name for path in (root / "etc/skerry").iterdir()) == ["skerry.toml"]

    toml.write_text(toml.read_text("utf-8") + "# mine\n", encoding="utf-8")
    (root / "var/lib/skerry/kept").touch()
    again = run("--root", root, "--ready-made")
    assert again.returncode == 0, again.stderr
    assert toml.read_text("utf-8").endswith("# mine\n")
    assert (root / "var/lib/skerry/kept").exists()


def test_a_configuration_with_a_fault_starts_nothing(root: Path) -> None:
    toml = root / "etc/skerry/skerry.toml"
    toml.parent.mkdir(parents=True)
    toml.write_text('[node]\nnmae = "box"\n', encoding="utf-8")
    done = run("--root", root, "--ready-made")
    assert done.returncode == 1
    assert "nmae" in done.stderr
    assert f"install: mend {toml}, then run this again" in done.stderr
    assert not (root / "etc/systemd/system/skerry.service").exists()


def test_it_takes_away_the_program_and_only_when_told_what_was_kept(root: Path) -> None:
    assert run("--root", root, "--ready-made").returncode == 0
    assert run("--root", root, "--uninstall").returncode == 0
    left = sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())
    assert left == ["etc/skerry/skerry.toml"]
    assert (root / "var/lib/skerry").is_dir()
    done = run("--root", root, "--uninstall", "--purge")
    assert done.returncode == 0, done.stderr
    assert [path for path in root.rglob("*") if "skerry" in path.name] == []
    assert run("--root", root, "--uninstall").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--halp"], 2, "there is no option --halp"),
        (["--root"], 2, "--root needs a directory"),
        (["--root", "", "--uninstall"], 2, "--root needs a directory"),
        (["--purge"], 2, "--purge goes with --uninstall"),
    ],
)
def test_wrong_use_is_told_and_does_nothing(arguments: list[str], code: int, says: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


def test_what_it_cannot_do_without(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run("--root", tmp_path / "root", "--python", old)
    assert (done.returncode, "is not Python 3.11 or newer" in done.stderr) == (1, True)
    done = run("--root", tmp_path / "root", "--ready-made")
    assert (done.returncode, "leave --ready-made out" in done.stderr) == (1, True)
    elsewhere = tmp_path / "packaging" / "install.sh"
    elsewhere.parent.mkdir()
    shutil.copy(SCRIPT, elsewhere)
    done = run("--root", tmp_path / "root", script=elsewhere)
    assert (done.returncode, "is not the source of skerry" in done.stderr) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="optional: only root may become somebody else")
def test_it_wants_to_be_root_where_it_writes_to_the_system() -> None:
    done = subprocess.run(
        ["sh", str(SCRIPT)], capture_output=True, text=True, check=False, user=65534, group=65534, extra_groups=[], cwd="/"
    )
    assert done.returncode != 0
    assert "run it as root" in done.stderr or "Permission denied" in done.stderr


def test_help_says_every_option() -> None:
    told = run("--help").stdout
    for option in ("--uninstall", "--purge", "--python", "--ready-made", "--no-start", "--root"):
        assert option in told
    assert "set -eu" not in told


def test_the_shell_script_has_no_fault_that_shellcheck_knows() -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip(reason="optional: shellcheck is not installed")
    done = subprocess.run([checker, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
