"""Checks that the locked requirements serve every supported Python and both processor architectures.

pip-compile resolves for one interpreter. This reads the metadata of what is installed and evaluates the conditions of
every dependency for the other environments: what is required there must be locked too. With `--wheels` it also asks the
configured index whether each locked release has a wheel there (slow: it fetches them all).
"""

import argparse
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_26", "manylinux_2_27", "manylinux_2_28", "manylinux_2_34")
FILES = (Path("requirements/run.txt"), Path("requirements/dev.txt"))
# installed in environments of their own, so only their wheels can be looked for
ELSEWHERE = (Path("requirements/bench.txt"), Path("requirements/docs.txt"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    """Locked versions by canonical name."""
    return {canonicalize_name(name): version for name, version in PIN.findall(path.read_text("utf-8"))}


def environment(python: str, machine: str) -> dict[str, str]:
    """Marker variables of CPython on Linux, see the dependency specifiers of the packaging user guide."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def missing(locked: dict[str, str], env: dict[str, str]) -> list[str]:
    """Sentences about what the environment needs and the lock has not."""
    faults = []
    for name, version in locked.items():
        try:
            found = distribution(name)
        except PackageNotFoundError:
            faults.append(f"{name} {version} is locked but not installed: make test installs it")
            continue
        if found.version != version:
            faults.append(f"{name} {version} is locked but {found.version} is installed")
        for text in found.requires or ():
            wanted = Requirement(text)
            if wanted.marker and not wanted.marker.evaluate({**env, "extra": ""}):
                continue
            have = locked.get(canonicalize_name(wanted.name))
            if have is None:
                faults.append(f"{name} needs {wanted.name}, which is not locked")
            elif not wanted.specifier.contains(have, prereleases=True):
                faults.append(f"{name} needs {wanted.name}{wanted.specifier}, locked is {have}")
    return faults


def lacks_wheels(path: Path, python: str, machine: str) -> str:
    """What pip says against installing the file from wheels alone there, or an empty string."""
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", "--python-version", python, "--target", target, "--ignore-installed"]
        command += [part for name in PLATFORMS for part in ("--platform", f"{name}_{machine}")]
        done = subprocess.run([*command, "-r", str(path)], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def main() -> int:
    """Prints each fault; returns 1 if there is one."""
    parser = argparse.ArgumentParser(description="Check that the locks serve every supported environment.")
    parser.add_argument("--wheels", action="store_true", help="also look for wheels of every environment")
    args = parser.parse_args()
    faults = []
    for path in (*FILES, *ELSEWHERE):
        for python in PYTHONS:
            for machine in MACHINES:
                where = f"{path}, Python {python} on {machine}"
                if path not in ELSEWHERE:
                    faults += [f"{where}: {fault}" for fault in missing(pins(path), environment(python, machine))]
                if args.wheels and (fault := lacks_wheels(path, python, machine)):
                    faults.append(f"{where}: {fault}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
