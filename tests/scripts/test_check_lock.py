"""The locked requirements: hashes only, no address, complete for each supported environment."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("scripts_check_lock", ROOT / "scripts" / "check_lock.py")
assert spec is not None
assert spec.loader is not None
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)

RUN, DEV = ROOT / "requirements" / "run.txt", ROOT / "requirements" / "dev.txt"


def test_run_and_dev_agree() -> None:
    run, dev = lock.pins(RUN), lock.pins(DEV)
    assert {name: dev[name] for name in run if name in dev} == {name: run[name] for name in run if name in dev}


def test_every_declared_dependency_is_locked_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    declared = project["project"]["dependencies"] + project["build-system"]["requires"]
    extras = [text for each in project["project"]["optional-dependencies"].values() for text in each]
    for texts, locked in ((declared, lock.pins(RUN)), (extras, lock.pins(DEV))):
        for text in texts:
            wanted = Requirement(text)
            assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), text


@pytest.mark.parametrize("path", [RUN, DEV], ids=["run", "dev"])
def test_every_pin_has_hashes(path: Path) -> None:
    for block in re.split(r"^(?=[A-Za-z0-9])", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


@pytest.mark.parametrize("machine", lock.MACHINES)
@pytest.mark.parametrize("python", lock.PYTHONS)
def test_nothing_is_missing_elsewhere(python: str, machine: str) -> None:
    faults = lock.missing(lock.pins(RUN), lock.environment(python, machine))
    assert faults == []


def test_a_missing_dependency_is_named() -> None:
    pins = lock.pins(RUN)
    del pins["aiosignal"]
    assert any("aiohttp needs aiosignal" in fault for fault in lock.missing(pins, lock.environment("3.13", "aarch64")))


def test_another_version_than_the_locked_one_is_named() -> None:
    faults = lock.missing({"msgspec": "0.0.1"}, lock.environment("3.11", "x86_64"))
    assert any("msgspec 0.0.1 is locked but" in fault for fault in faults)
