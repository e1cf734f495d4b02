"""The model servers that skerry's is measured beside: the same network, the same requests, each written as its own documents do.

They live in an environment of their own, `.venv/peers`, which `make bench` makes from `requirements/bench.txt`.
"""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bench.model import write_mlp
from bench.systems import ROOT, System
from skerry.runtime import free_ports

PYTHON = ROOT / ".venv" / "peers" / "bin" / "python"
LACKING = "other model servers are not measured: .venv/peers is not there (`make bench` makes it where their wheels install)"
PATIENCE_S = 60.0


class Server(System):
    """One of them, serving `mlp` at `/v2/models/mlp/infer`.

    Attributes:
        package: what is installed. arguments: of its program, with `{port}` in it.
    """

    package = ""
    arguments: tuple[str, ...] = ("{port}",)

    def __init__(self, folder: Path, inputs: int) -> None:
        super().__init__(folder)
        (self.port,) = free_ports("127.0.0.1", [0])
        write_mlp(folder / "mlp.onnx", inputs)

    async def start(self) -> None:
        program = Path(__file__).parent / "peers" / f"{self.package}_server.py"
        given = [each.format(port=self.port) for each in self.arguments]
        model = f"MODEL={self.folder / 'mlp.onnx'}"
        await self.spawn("server", "env", "-u", "PYTHONPATH", model, str(PYTHON), str(program), *given)
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            self.check()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                await asyncio.sleep(1.0)  # some listen before their workers are there
                return
            await asyncio.sleep(0.1)
        tail = (self.folder / "log").read_text(errors="replace")[-2000:]
        raise SystemExit(f"{self.name}: not ready after {PATIENCE_S:g} s\n{tail}")


class Mosec(Server):
    name = package = "mosec"
    arguments = ("--address", "127.0.0.1", "--port", "{port}")


class FastApi(Server):
    name, package = "FastAPI", "fastapi"


class LitServe(Server):
    name, package = "LitServe", "litserve"


ALL: tuple[Callable[[Path, int], Server], ...] = (Mosec, FastApi, LitServe)


def installed() -> bool:
    return os.access(PYTHON, os.X_OK)


def versions() -> dict[str, str]:
    """What is installed there, by package; empty where nothing is."""
    if not installed():
        return {}
    asked = "from importlib.metadata import version as v; import sys; print(*[v(name) for name in sys.argv[1:]])"
    names = [Mosec.package, FastApi.package, LitServe.package]
    done = subprocess.run([str(PYTHON), "-c", asked, *names], capture_output=True, text=True, check=False)
    return dict(zip(names, done.stdout.split(), strict=False))
