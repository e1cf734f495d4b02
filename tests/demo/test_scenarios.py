"""The scenarios: each on real nodes that are really cut off, killed and lied to; and what a broken promise looks like."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from skerry.core.errors import UnavailableError
from skerry.demo import SCENARIOS, Told, play
from skerry.demo.scenarios.box import times_seen
from skerry.demo.scenarios.story import Scenario, Story
from tests.fixtures.node import until

FIGURES = {"acknowledged", "events", "missing", "twice", "worker-0_down_s", "nats-server_down_s", "node_down_s"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "skerry.cli", "demo", "--scenario", *arguments]


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory for temporary files whose path leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="sk-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", ["process-down"])
def test_the_promise_is_kept_and_nothing_stays(short: Path, name: str) -> None:
    """One here; all of them in tests/soak, since each takes ten seconds and more."""
    environment = {**os.environ, "TMPDIR": str(short)}
    done = subprocess.run(command(name, "--json"), capture_output=True, text=True, timeout=110, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout)
    assert (outcome["scenario"], outcome["kept"], outcome["broken"]) == (name, True, [])
    assert outcome["promise"] == SCENARIOS[name].promise
    assert set(outcome["figures"]) >= FIGURES
    assert outcome["figures"]["acknowledged"] > 0
    assert [each["text"] in done.stderr for each in outcome["told"]] == [True] * len(outcome["told"])
    assert list(short.iterdir()) == []


def test_ctrl_c_ends_what_it_started(short: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(short)}
    with subprocess.Popen(command("bad-device", "-q"), env=environment, stdout=subprocess.DEVNULL) as process:
        found: list[psutil.Process] = []

        def nats() -> bool:
            found[:] = psutil.Process(process.pid).children(recursive=True)
            return any("nats-server" in each.name() for each in found)

        until(nats, 60, "the node of the scenario has started")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    until(lambda: not any(each.is_running() for each in found), 30, "its processes are gone")
    assert list(short.iterdir()) == []


def test_an_unknown_scenario_is_said() -> None:
    done = subprocess.run(command("link-dwon"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "there is no scenario 'link-dwon', did you mean 'link-down'?" in done.stderr


async def no_promise(story: Story) -> None:
    story.figures["missing"] = 3
    story.check(True, "this held")
    story.check(False, "3 are missing")


async def never(story: Story) -> None:
    async def comes() -> bool:
        raise UnavailableError("nobody is there")

    await story.until(comes, "it comes", longest=0.3)
    story.check(True, "what is behind it is not reached")


async def cannot(story: Story) -> None:
    (story.folder / "left").touch()
    raise UnavailableError("the node ended")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("run", "broken"),
    [(no_promise, "3 are missing"), (never, "not within 0.3 s: it comes"), (cannot, "it could not be shown: the node ended")],
)
async def test_a_broken_promise_is_an_outcome(run: object, broken: str) -> None:
    heard: list[Told] = []
    outcome = await play("it", Scenario("all is well", run), heard.append)  # type: ignore[arg-type]  # the parameter is an object
    assert not outcome.kept
    assert outcome.broken == [broken]
    assert heard == outcome.told
    assert heard[-1].kind == "broken"


def test_a_broken_promise_is_exit_code_1(tmp_path: Path) -> None:
    """A node that cannot start: its environment has an address that is none."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "SKERRY_API__HOSTS": "no list"}
    argv = command("process-down", "--json")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, env=environment, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["kept"] is False
    assert "the promise was not kept: it could not be shown" in done.stderr


def test_what_is_missing_and_what_came_twice_is_counted() -> None:
    assert times_seen([0.0, 1.0, 1.0, 3.0, 7.0, 7.0, 7.0], {0, 1, 2, 3, 4}) == (2, 3)
    assert times_seen([], set()) == (0, 0)
