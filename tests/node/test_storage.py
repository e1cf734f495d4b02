"""The node's own store: nothing until it is asked for, and open again after an I/O error."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.config import load
from skerry.core.clock import SystemClock
from skerry.node.storage import NodeStorage
from tests.store.disk import compiled, environment

TRIES = """
import asyncio, json, os, sys
from pathlib import Path
from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError
from skerry.node import storage as module
from tests.node.test_storage import storage

module.REOPEN_S = 0.2

async def main():
    kept, refused, warned = [], [], []
    held = storage(Path(sys.argv[1]))
    first = await held.store()
    await first.set(b"before", b"1")
    print("armed", flush=True)
    while len(kept) < 20:
        key = b"%04d" % (len(kept) + len(refused))
        try:
            await (await held.store()).set(key, b"v")
            kept.append(key.decode())
        except SkerryError as error:
            refused.append(str(error))
            warned += held.warnings()
            await asyncio.sleep(0.05)
    store = await held.store()
    found = [key.decode() async for key, _ in store.scan()]
    print(json.dumps({"kept": kept, "refused": refused, "warned": warned, "found": found, "after": held.warnings(),
                      "another": store is not first}))
    await held.close()

asyncio.run(main())
"""


def storage(folder: Path) -> NodeStorage:
    file = folder / "skerry.toml"
    file.write_text('[node]\nname = "n"\nsite = "s"\n[storage]\npath = "store"\nmax_size = "64MiB"\n')
    return NodeStorage(load(file), SystemClock())


@pytest.mark.asyncio
async def test_it_is_opened_when_it_is_asked_for_and_once(tmp_path: Path) -> None:
    held = storage(tmp_path)
    await held.close()
    assert not (tmp_path / "store").exists()
    store = await held.store()
    assert await held.store() is store
    await store.set(b"k", b"v")
    assert held.warnings() == []
    await held.close()


@pytest.mark.parametrize("call", ["sync", "write"])
def test_an_io_error_is_warned_of_and_the_store_is_opened_again_by_itself(tmp_path: Path, call: str) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    fault = environment(compiled(tmp_path), root, None, f"{call}:3:{errno.EIO}:1")
    argv = [sys.executable, "-c", TRIES, str(root)]
    done = subprocess.run(argv, env=fault, capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["refused"], "the fault was met"
    assert "Input/output error" in told["refused"][0]
    assert any("takes nothing since an I/O error" in warning for warning in told["warned"])
    assert (told["another"], told["after"]) == (True, [])
    assert {"before", *told["kept"]} <= set(told["found"])
