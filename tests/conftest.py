"""What every test may rely on: ports from the kernel, no process left behind, no silent skip in CI."""

import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from skerry.runtime import free_ports as free_ports_of

if TYPE_CHECKING:
    from skerry.broker import WireClient
    from tests.fixtures.nats import NatsServer

# A machine that is busy draws examples slowly, and that is no fault of a test.
settings.register_profile("skerry", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("skerry")

# Nodes of tests that are not about the page go without: each would take a port, half a second and 70 MiB for it.
os.environ.setdefault("SKERRY_DASHBOARD__ENABLED", "false")

RUN_MARK = "PYTEST_RUN_MARK"
OPTIONAL = "optional:"
SYSTEM = Path(__file__).parent / "system"


def _reserve(count: int) -> list[int]:
    return free_ports_of("127.0.0.1", [0] * count)


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    return _reserve(1)[0]


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """As many different free TCP ports as are asked for."""
    return _reserve


@pytest.fixture
def server(tmp_path: Path) -> "Iterator[NatsServer]":
    """A nats-server of the test's own."""
    from tests.fixtures.nats import NatsServer  # late: most tests go without

    with NatsServer(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def client(server: "NatsServer") -> "AsyncIterator[WireClient]":
    """A connection to it, with the node's streams and buckets made."""
    found = await server.prepared()
    yield found
    found.close()
    await found.closed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB of its own."""
    from tests.fixtures.disk import own_disk  # late: most tests go without

    with ExitStack() as stack:
        try:
            stack.enter_context(own_disk(tmp_path / "disk", 48))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"optional: a file system cannot be mounted here: {error.stderr.strip()}")
        yield tmp_path / "disk"


def _ours(process: psutil.Process, mark: str) -> bool:
    """Whether a process was started by this run: it inherited the mark, also when its parent is dead by now."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(RUN_MARK) == mark
    except (psutil.Error, OSError):
        return False


def _left(mark: str) -> list[psutil.Process]:
    children = {process.pid: process for process in psutil.Process().children(recursive=True)}
    marked = {process.pid: process for process in psutil.process_iter() if _ours(process, mark)}
    found = {**children, **marked}
    found.pop(os.getpid(), None)
    # multiprocessing keeps a process of its own until the interpreter ends
    return [process for process in found.values() if "multiprocessing.resource_tracker" not in _command(process)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "(gone)"


@pytest.fixture(scope="session", autouse=True)
def _no_process_left() -> Iterator[None]:
    """Fails the run when a process that it started is still there at its end, and ends that process."""
    mark = f"{os.getpid()}-{time.time_ns()}"
    before = os.environ.get(RUN_MARK)
    os.environ[RUN_MARK] = mark
    yield
    if before is None:
        del os.environ[RUN_MARK]
    else:
        os.environ[RUN_MARK] = before
    patience = time.monotonic() + 3.0
    while (left := _left(mark)) and time.monotonic() < patience:
        time.sleep(0.05)
    names = [f"{process.pid} {_command(process)}" for process in left]
    for process in left:
        try:
            process.kill()
            process.wait(5)
        except psutil.Error:
            continue
    assert not names, "processes left behind by the tests (now killed):\n" + "\n".join(names)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks by place: everything under tests/system is `system`."""
    for item in items:
        if item.path.is_relative_to(SYSTEM):
            item.add_marker("system")


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Under CI=true a skip is a failure, unless its reason begins with `optional:`."""
    if os.environ.get("CI") != "true" or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(OPTIONAL):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """See `_forbid_skip`."""
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """See `_forbid_skip`: a module skipped as a whole."""
    report = yield
    _forbid_skip(report)
    return report
