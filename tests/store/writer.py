"""A process that writes to a store until it is killed: says what has been acknowledged, a line each. `python writer.py DIRECTORY`.

Round n sets `single/n` (durable), and a batch that sets `left` and `right` to n and `row/n/0…9`. Now and then it flushes, compacts
or makes a backup; the first entries of `raw` are evicted when the store is full. A round that is refused is tried again.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from skerry.core.errors import SkerryError, StoreFull
from skerry.store import KeyValueStore, StorageConfig
from skerry.store.engine import DiskFull

PAD = b"x" * 2000
TRIES, PAUSE_S = 1000, 0.1


async def write(directory: Path) -> int:
    config = StorageConfig(path=directory, max_size="64MiB", compression="none", evictable=("raw",))
    async with KeyValueStore(config) as kv:
        begin = int(await kv.get(b"left") or 0) + 1
        say("open")
        for number in range(begin, begin + 100_000):
            for _ in range(TRIES):
                try:
                    await round_of(kv, number)
                    if number % 23 == 0:
                        await back_up(kv, directory.with_name("backup"), number)
                    break
                except SkerryError as error:
                    say("refused for want of room" if isinstance(error, DiskFull | StoreFull) else "refused")
                    await asyncio.sleep(PAUSE_S)
            else:
                return 3
    return 0


async def round_of(kv: KeyValueStore, number: int) -> None:
    await kv.set(b"single/%08d" % number, b"%d" % number)
    say(f"single {number}")
    async with kv.batch() as batch:
        batch.set(b"left", b"%d" % number)
        for row in range(10):
            batch.set(b"row/%08d/%d" % (number, row), PAD)
        batch.set(b"right", b"%d" % number, table="other")
    say(f"batch {number}")
    more = range(number * 50, number * 50 + 50)
    await asyncio.gather(*(kv.set(b"%d" % at, PAD, table="raw", durable=False) for at in more))
    if number % 7 == 0:
        say("flush begins")
        await kv.flush()
    if number % 31 == 0:
        say("compaction begins")
        await kv.compact()
        say("compacted")
    if (evicted := int(kv.stats()["evicted"])) and number % 5 == 0:
        say(f"evicted {evicted}")


async def back_up(kv: KeyValueStore, place: Path, number: int) -> None:
    say("backup begins")
    shutil.rmtree(place, ignore_errors=True)
    await kv.backup(place)
    say(f"backup holds {number}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    sys.exit(asyncio.run(write(Path(sys.argv[1]))))
