"""`make test`: the whole suite in processes, three at once, since tests wait more than they compute; with arguments pytest alone.

Each one's output comes when it has ended. Where a few tests failed, those run once more alone: one that fails again
is a fault, one that passes was too slow beside the others. The last lines say how each process ended and what failed in it.
"""

import concurrent.futures
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SLOWEST = "system"
"""A folder that is two processes, every second file in one: its tests wait for most of their time."""
GROUPS = (
    ("cli", "demo", "mqtt", "uplink", "connector"),
    ("inference", "serving", "pipeline", "window", "bench", "examples"),
    ("node",),
    ("cluster",),
    ("worker",),
    ("broker", "docs"),
    ("dashboard",),  # the driver of the browser keeps an event loop running in its thread
)
"""Folders of a process each, in the order in which they begin; everything else is the last one's, which begins as the third."""
AT_ONCE = 3
MOST_AGAIN = 6
"""What gets a second run: failed tests, or folders of a process that a signal ended; more of them are no accident."""
_PRINTING = threading.Lock()


class Part(NamedTuple):
    """One process of the suite, and how it ended."""

    names: list[str]
    code: int
    seconds: float
    failed: list[str]

    def __str__(self) -> str:
        ended = "passed" if self.code == 0 else f"ended with {self.code}"
        return "\n    ".join([f"{ended} in {self.seconds:.0f} s: {' '.join(self.names)}", *self.failed])


def groups(tests: Path) -> list[list[str]]:
    """Paths under `tests` for each process; every test is in exactly one."""
    entries = [each for each in sorted(tests.iterdir()) if each.is_dir() or each.name.startswith("test_")]
    names = [f"{tests.name}/{each.name}" for each in entries if not each.name.startswith((".", "__"))]
    slowest = f"{tests.name}/{SLOWEST}"
    files = [f"{slowest}/{file.name}" for file in sorted((tests / SLOWEST).glob("test_*.py"))]
    found = [[name for name in names if name.removeprefix(f"{tests.name}/") in group] for group in GROUPS]
    rest = [name for name in names if name != slowest and not any(name in group for group in found)]
    return [files[::2], files[1::2], *found, rest]


def main(arguments: list[str]) -> int:
    if arguments:
        return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)
    found = groups(ROOT / "tests")
    order = [names for names in (*found[:2], found[-1], *found[2:-1]) if names]
    print(f"{len(order)} processes, {AT_ONCE} at once; the output of each comes when it has ended", flush=True)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        parts = list(pool.map(run, order))
    code = next((part.code for part in parts if part.code), 0)
    alone = again(parts)
    if alone:
        print(f"once more, with nothing beside: {' '.join(alone)}", flush=True)
        last = run(alone)
        parts.append(last)
        code = last.code
    print(*parts, sep="\n", flush=True)  # last, where it is read first
    if alone and not code:
        print(f"failed beside the others, passed alone: {' '.join(alone)}", flush=True)
    return code


def again(parts: list[Part]) -> list[str]:
    """What to run a second time: few failed tests, and all of a process that a signal ended; nothing where more is wrong."""
    found: list[str] = []
    for part in parts:
        if part.code == 1 and part.failed:
            found += part.failed
        elif part.code < 0:
            found += part.names
        elif part.code:
            return []
    return found if len(found) <= MOST_AGAIN and all("::" in name or (ROOT / name).exists() for name in found) else []


def run(names: list[str]) -> Part:
    """pytest over these, its output whole when it has ended."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        argv = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *names]
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        notes = Path(cache) / "v" / "cache" / "lastfailed"
        failed = list(json.loads(notes.read_text())) if done.returncode and notes.exists() else []
    with _PRINTING:
        sys.stdout.write(done.stdout.decode(errors="replace"))
        sys.stdout.flush()
    return Part(names, done.returncode, time.monotonic() - began, failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
