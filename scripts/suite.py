"""`make test`: the whole suite in processes, three at once, since tests wait more than they compute; with arguments pytest alone.

Each one's output comes when it has ended. Where a few tests failed, those run once more alone: one that fails again
is a fault, one that passes was too slow beside the others and is named at the end, to be looked into.
"""

import concurrent.futures
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GROUPS = (
    ("system",),
    ("cli", "demo", "mqtt", "uplink", "connector"),
    ("inference", "serving", "pipeline", "window", "bench", "examples"),
    ("node",),
    ("cluster",),
    ("worker",),
    ("broker", "docs"),
    ("dashboard",),  # the driver of the browser keeps an event loop running in its thread
)
"""Folders of a process each, in the order in which they begin; everything else is the last one's, which begins as the second."""
AT_ONCE = 3
MOST_AGAIN = 3
"""Failed tests that get a second run; more of them are no accident."""
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
    with tempfile.TemporaryDirectory() as notes, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        found = groups(ROOT / "tests")
        order = [names for names in (found[0], found[-1], *found[1:-1]) if names]
        caches = [Path(notes) / str(at) for at in range(len(order))]
        print(f"{len(order)} processes, {AT_ONCE} at once; the output of each comes when it has ended", flush=True)
        codes = list(pool.map(lambda cache, names: _run([*pytest, "-o", f"cache_dir={cache}", *names]), caches, order))
        failed = again(codes, caches)
    code = next((code for code in codes if code), 0)
    if not failed:
        return code
    print(f"once more, with nothing beside: {' '.join(failed)}", flush=True)
    code = _run([*pytest, "-p", "no:cacheprovider", *failed])
    if not code:
        print(f"failed beside the others, passed alone: {' '.join(failed)}", flush=True)
    return code


def again(codes: list[int], caches: list[Path]) -> list[str]:
    """Tests to run a second time; none where all passed, where a process failed otherwise, or where too many failed."""
    failed: list[str] = []
    for code, cache in zip(codes, caches, strict=True):
        if code == 0:
            continue
        notes = cache / "v" / "cache" / "lastfailed"
        if code != 1 or not notes.exists():  # 1: tests failed; all else is no test's failure
            return []
        failed += json.loads(notes.read_text())
    return failed if len(failed) <= MOST_AGAIN and all("::" in name for name in failed) else []


def _run(argv: list[str]) -> int:
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    with _PRINTING:
        sys.stdout.write(done.stdout.decode(errors="replace"))
        sys.stdout.flush()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
