"""The systemd unit and the container file: what can be checked of them without systemd running and without a container engine."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.node.watchdog import STILL_S, UNREADY_S
from tests.docs.test_docs import complaint

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "packaging" / "skerry.service"
CONTAINERFILE = ROOT / "packaging" / "Containerfile"
STEP = re.compile(r"^([A-Z]+) (.+)$")


def unit() -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names are case-sensitive there
    parser.read(UNIT)
    return {name: dict(parser[name]) for name in parser.sections()}


@pytest.fixture(scope="module")
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip(reason="optional: systemd-analyze is not installed")
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as it is once its program is there."""
    program = Path(sys.executable).with_name("skerry")
    text = UNIT.read_text("utf-8").replace("/opt/skerry/bin/skerry", str(program))
    found = tmp_path / "skerry.service"
    found.write_text(text, encoding="utf-8")
    return found


def test_systemd_understands_the_unit(analyze: str, installed: Path) -> None:
    done = subprocess.run([analyze, "verify", "--man=no", str(installed)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_a_fault_in_a_unit(analyze: str, installed: Path) -> None:
    installed.write_text(installed.read_text("utf-8").replace("Type=notify", "Type=notified"), encoding="utf-8")
    done = subprocess.run([analyze, "verify", "--man=no", str(installed)], capture_output=True, text=True, check=False)
    assert "notified" in done.stderr


def test_it_is_locked_in(analyze: str, installed: Path) -> None:
    """`systemd-analyze security` gives exposures from 0 to 10; 2.1 when this was written."""
    command = [analyze, "security", "--offline=true", "--threshold=25", str(installed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:]


def test_what_the_unit_promises() -> None:
    service = unit()["Service"]
    assert (service["Type"], service["Delegate"], service["Restart"], service["KillMode"]) == ("notify", "yes", "always", "mixed")
    # a pipeline that stands still is noticed well before the node is ended for it, and a hung function of a user before that
    assert 2 * STILL_S < float(service["WatchdogSec"]) < UNREADY_S
    assert service["TimeoutStartSec"] == "infinity"
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(service["LimitNOFILE"]) > 2 * 10_000


def test_the_unit_leaves_the_node_its_cgroups() -> None:
    """What `runtime.confinement` needs: a subtree that it may write to, and workers that may end in it."""
    service = unit()["Service"]
    assert service["OOMPolicy"] == "continue"
    assert "ProtectControlGroups" not in service
    assert {service["MemoryAccounting"], service["CPUAccounting"]} == {"yes"}


def test_the_commands_of_both_exist() -> None:
    words = unit()["Service"]["ExecStart"].split()
    assert complaint(words[1:]) == ""
    entry, run, health = (arguments(name) for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"))
    assert complaint([*entry[1:], *run]) == ""
    assert complaint(health[1:]) == ""


def steps() -> list[tuple[str, str]]:
    lines = CONTAINERFILE.read_text("utf-8").splitlines()
    return [(found[1], found[2]) for line in lines if not line.startswith("#") and (found := STEP.match(line))]


def arguments(name: str) -> list[str]:
    """The last such step in its JSON form."""
    text = [rest for step, rest in steps() if step == name][-1]
    return re.findall(r'"([^"]*)"', text)


def test_every_line_of_the_container_file_is_a_step() -> None:
    text = CONTAINERFILE.read_text("utf-8")
    assert len(steps()) == len([line for line in text.splitlines() if line and not line.startswith("#")])
    assert {name for name, _ in steps()} <= {
        "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD",
    }  # fmt: skip


def test_what_it_copies_is_there() -> None:
    sources = [word for name, rest in steps() if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]]
    assert {"src", "pyproject.toml", "requirements/run.txt"} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    named = (ROOT / "pyproject.toml").read_text("utf-8")
    for file in re.findall(r"(?:readme = |license-files = \[)(.+?)\]?$", named, re.MULTILINE):
        assert all(each in sources for each in re.findall(r'"([^"]+)"', file)), file


def test_it_installs_as_the_makefile_does() -> None:
    made, runs = (ROOT / "Makefile").read_text("utf-8"), [rest for name, rest in steps() if name == "RUN"]
    for flags in ("--require-hashes --only-binary :all: -r requirements/run.txt", "--no-build-isolation"):
        assert flags in made
        assert any(flags in run for run in runs)


def test_it_runs_as_nobody_s_root_and_ends_in_order() -> None:
    names = dict(steps())
    assert names["USER"] == "skerry"
    assert names["STOPSIGNAL"] == "SIGTERM"
    assert names["VOLUME"] == "/var/lib/skerry"
    assert any("SKERRY_NODE__DATA_DIR=/var/lib/skerry" in rest for name, rest in steps() if name == "ENV")
