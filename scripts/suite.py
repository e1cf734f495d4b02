"""`make test`: the whole suite in processes, three at once, since tests wait more than they compute; with arguments pytest alone.

Each one's output comes when it has ended.
"""

import concurrent.futures
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GROUPS = (
    ("system",),
    ("inference", "serving", "pipeline", "window", "bench", "examples"),
    ("node", "worker", "cli", "demo", "mqtt", "uplink", "connector"),
    ("dashboard",),  # the driver of the browser keeps an event loop running in its thread
)
"""Folders of a process each; everything else is the last one's. The longest come first."""
AT_ONCE = 3
_PRINTING = threading.Lock()


def groups(tests: Path) -> list[list[str]]:
    """Paths under `tests` for each process; every test is in exactly one."""
    entries = [each for each in sorted(tests.iterdir()) if each.is_dir() or each.name.startswith("test_")]
    names = [f"{tests.name}/{each.name}" for each in entries if not each.name.startswith((".", "__"))]
    found = [[name for name in names if name.removeprefix(f"{tests.name}/") in group] for group in GROUPS]
    return [*found, [name for name in names if not any(name in group for group in found)]]


def main(arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest"]
    if arguments:
        return subprocess.call([*pytest, *arguments], cwd=ROOT)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        found = groups(ROOT / "tests")
        order = [found[0], found[-1], *found[1:-1]]
        print(f"{len(order)} processes, {AT_ONCE} at once; the output of each comes when it has ended", flush=True)
        codes = list(pool.map(lambda names: _run([*pytest, "-p", "no:cacheprovider", *names]), order))
    return next((code for code in codes if code), 0)


def _run(argv: list[str]) -> int:
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    with _PRINTING:
        sys.stdout.write(done.stdout.decode(errors="replace"))
        sys.stdout.flush()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
