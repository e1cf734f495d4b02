"""A process that forks a child for each job: quick, never taken down by a job, gone when nobody needs it, and it leaves nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil
import pytest
from onnx import helper

from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.inference.catalogue.config import ModelConfig
from skerry.inference.catalogue.description import describe
from skerry.inference.catalogue.trial import Question, Report, try_model
from skerry.inference.host import EngineHost
from skerry.inference.tools.commands import Bench, Benched
from tests.inference.catalogue.test_trial import endless
from tests.inference.conftest import FLOAT, MakeModel

FORKS = 40
T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float = 20.0) -> T:
    """What the condition says as soon as it says something."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def host() -> Iterator[EngineHost]:
    """One host for all: that a job leaves it as it was is what is asked."""
    with EngineHost() as running:
        yield running


@pytest.fixture
def good(make_model: MakeModel) -> Path:
    return make_model([helper.make_node("Identity", ["x"], ["score"])], [("score", FLOAT, ["N", 3])])


def fixed_batch(make: MakeModel) -> Path:
    return make([helper.make_node("Relu", ["x"], ["score"])], [("score", FLOAT, [1, 3])], shape=(1, 3))


def children(host: EngineHost) -> list[psutil.Process]:
    assert host.pid is not None
    return psutil.Process(host.pid).children()


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_host_has_many_children_and_none_hangs(host: EngineHost, good: Path) -> None:
    try_model(good, host=host)
    first = host.pid
    for _ in range(FORKS):
        assert try_model(good, host=host, seconds=20).engine == "onnxruntime"
    assert host.pid == first
    assert children(host) == []


def test_after_a_crash_a_hang_and_a_refusal_the_next_is_as_before(host: EngineHost, good: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    loop = endless(tmp_path)
    pid = host.pid
    with pytest.raises(RejectedError, match=r"did not end within 0\.5 s"):
        try_model(loop, host=host, seconds=0.5)
    assert try_model(good, host=host).ir == 8
    with pytest.raises(RejectedError, match="no ONNX file"):
        try_model(bad, host=host)
    thread = threading.Thread(target=lambda: os.kill(wait_for(lambda: children(host))[0].pid, signal.SIGBUS))
    thread.start()
    with pytest.raises(RejectedError, match=r"the engine crashed \(SIGBUS\)"):
        try_model(loop, host=host)
    thread.join()
    assert try_model(good, host=host).ir == 8
    assert host.pid == pid


def test_what_a_child_writes_into_the_temporary_directory_goes_with_it(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with EngineHost() as host:
        report = try_model(fixed_batch(make_model), host=host)
        assert report.batching.startswith("freed")
        with pytest.raises(RejectedError):
            try_model(endless(tmp_path), host=host, seconds=0.3)
        assert not list(scratch.iterdir())
        try_model(fixed_batch(make_model), host=host, cache=tmp_path / "cache")
    kept = sorted("".join(file.suffixes[-2:]) for file in (tmp_path / "cache").iterdir())
    assert kept == [".freed.onnx", ".opt.onnx", ".prepared.json"], "what a worker loads next lies ready"


def test_an_error_comes_out_as_it_went_in_and_one_that_none_expected_is_told(host: EngineHost, good: Path) -> None:
    with pytest.raises(ConfigError, match="there is no engine 'tract'; allowed: auto, onnxruntime, openvino") as caught:
        host.ask("catalogue.trial:look", Question(str(good), engine="tract"), Report, seconds=20)
    assert caught.value.where == "engine"
    with pytest.raises(RejectedError, match=r"the model ended the process that ran it: ValidationError: .*memory"):
        host.ask("catalogue.trial:look", ModelConfig("m", "m.onnx"), Report, seconds=20, where="m")


def test_progress_comes_while_the_work_is_done(host: EngineHost, good: Path) -> None:
    seen: list[tuple[int, int]] = []
    asked = Bench(str(good), batches=(1, 2), threads=(1,), seconds=0)
    found = host.ask("tools.commands:bench", asked, Benched, seconds=60, progress=lambda done, whole: seen.append((done, whole)))
    assert seen == [(1, 2), (2, 2)]
    assert [point.batch for point in found.sweep.points] == [1, 2]


def test_files_are_described_and_one_that_does_not_load_says_why(host: EngineHost, good: Path) -> None:
    row = describe(ModelConfig("m", good.name), good.parent, host)
    assert (row["name"], row["version"], row["inputs"][0]["shape"]) == ("m", "1", [None, 3])
    assert "does not exist" in describe(ModelConfig("m", "gone.onnx"), good.parent, host)["error"]


def test_without_a_job_it_ends_by_itself_and_the_next_job_starts_it_again(good: Path) -> None:
    with EngineHost(idle_s=0.2) as host:
        assert host.pid is None, "nothing runs before it is asked for"
        try_model(good, host=host)
        first = host.pid
        assert first is not None
        wait_for(lambda: host.pid is None)
        assert not psutil.pid_exists(first), "nothing of it is left, not even its exit code"
        try_model(good, host=host)
        for _ in range(3):  # just when it is about to leave
            time.sleep(0.199)
            try_model(good, host=host)


def test_it_rests_until_the_next_job_and_the_job_under_way_is_finished_first(host: EngineHost, good: Path) -> None:
    assert describe(ModelConfig("m", str(good)), Path(), host)["inputs"]
    assert host.pid is not None
    at_work = threading.Thread(target=describe, args=(ModelConfig("m", str(good)), Path(), host))
    at_work.start()
    host.rest()
    at_work.join()
    host.rest()
    assert host.pid is None
    assert describe(ModelConfig("m", str(good)), Path(), host)["inputs"]


def test_a_host_that_is_killed_is_told_from_a_model_that_crashes(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with EngineHost() as host:
        try_model(good, host=host)
        assert host.pid is not None
        victim = psutil.Process(host.pid)
        running: list[psutil.Process] = []

        def strike() -> None:
            running.extend(wait_for(lambda: children(host)))
            victim.kill()

        thread = threading.Thread(target=strike)
        thread.start()
        with pytest.raises(UnavailableError, match="the process that runs models was ended; try again"):
            try_model(endless(tmp_path), host=host)
        thread.join()
        wait_for(lambda: not any(map(alive, running)))  # the kernel has ended the child too
        assert [folder.name.startswith(f"skerry-job-{victim.pid}-") for folder in scratch.iterdir()] == [True]
        assert try_model(good, host=host).ir == 8
        assert not list(scratch.iterdir()), "the next host tidies up"


def test_closing_ends_the_job_under_way_and_refuses_others(tmp_path: Path) -> None:
    host = EngineHost()
    told: list[Exception] = []

    def run() -> None:
        try:
            try_model(endless(tmp_path), host=host)
        except UnavailableError as error:
            told.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    running = wait_for(lambda: host.pid is not None and children(host))
    host.close()
    thread.join()
    assert len(told) == 1
    assert not any(map(alive, running or []))
    with pytest.raises(UnavailableError, match="is ended"):
        try_model(tmp_path / "endless.onnx", host=host)
    host.close()


def test_it_ends_with_its_parent_and_so_does_what_it_runs(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from skerry.inference.catalogue.trial import try_model; try_model(Path(sys.argv[1]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(endless(tmp_path))])
    running = wait_for(lambda: found if len(found := psutil.Process(parent.pid).children(recursive=True)) == 2 else None)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(alive, running)))


def test_the_job_of_another_thread_waits_for_its_turn(host: EngineHost, good: Path) -> None:
    reports: list[Report] = []
    threads = [threading.Thread(target=lambda: reports.append(try_model(good, host=host))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 4
    assert all(msgspec.structs.asdict(each)["opset"] == 17 for each in reports)
