"""From argv to exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.cli.entry import exit_code, hoist, main
from skerry.core.errors import ConfigError, FencedError, OverloadedError, RejectedError, SkerryError, UnavailableError
from skerry.http import NotFoundError, UnreachableError
from tests.api.fake_view import Serving
from tests.cli.conftest import Call

ROOT = Path(__file__).resolve().parents[2]
SKERRY = [sys.executable, "-m", "skerry.cli"]
GLOBAL = ("--json", "-q", "--quiet", "-v", "--verbose")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), **more}


@pytest.mark.parametrize(
    ("given", "front"),
    [
        (["status", "--json"], ["--json", "status"]),
        (["--json", "status"], ["--json", "status"]),
        (["config", "show", "--config", "f", "-v"], ["--config", "f", "-v", "config", "show"]),
        (["status", "--url=http://x:1", "--config=c"], ["--url=http://x:1", "--config=c", "status"]),
        (["status", "--ca", "a", "--token-file=t"], ["--ca", "a", "--token-file=t", "status"]),
        (["device", "show", "--", "--json"], ["device", "show", "--", "--json"]),
        (["status", "--config"], ["status", "--config"]),
        ([], []),
    ],
)
def test_global_options_may_stand_behind(given: list[str], front: list[str]) -> None:
    assert hoist(given) == front


@given(st.lists(st.sampled_from([*GLOBAL, "--config", "--config=x", "--url", "a", "b", "--other", "--"])))
def test_hoisting_loses_nothing_and_keeps_the_order_of_the_rest(arguments: list[str]) -> None:
    front = hoist(arguments)
    assert sorted(front) == sorted(arguments)
    assert [each for each in front if each in ("a", "--other")] == [each for each in arguments if each in ("a", "--other")] or (
        "--config" in arguments or "--url" in arguments
    )
    assert hoist(front) == front


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (UnreachableError("x"), 3),
        (UnavailableError("x"), 1),
        (OverloadedError("x"), 1),
        (RejectedError("x"), 1),
        (NotFoundError("x"), 1),
        (FencedError("x"), 1),
        (SkerryError("x"), 1),
    ],
)
def test_exit_codes(error: SkerryError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    "arguments", [["stats"], ["status", "--jsn"], ["device"], ["device", "add"], ["data", "tail", "-n", "x"], []]
)
def test_wrong_use_is_2(call: Call, arguments: list[str]) -> None:
    answer = call(*arguments)
    assert answer.code == 2
    assert "Usage: skerry" in answer.out + answer.err
    assert "Traceback" not in answer.err


def test_no_configuration_is_2_and_no_node_is_3(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a variable of a key is a configuration too, and the tests have one
    monkeypatch.delenv("SKERRY_DASHBOARD__ENABLED", raising=False)
    run = call("run")
    assert run.code == 2
    assert run.err.startswith("error: there is no configuration: neither $SKERRY_CONFIG nor ./skerry.toml")
    assert "make one with `skerry init`" in run.err
    status = call("status")
    assert status.code == 3
    assert status.err == (
        f"error: {tmp_path}/data/skerry.sock: the node is not reachable: its socket is not there; start it with `skerry run`\n"
    )


def test_a_named_file_that_is_not_there_is_2(call: Call) -> None:
    for command in (["config", "check"], ["status"], ["run"]):
        answer = call(*command, "--config", "none.toml")
        assert (answer.code, answer.err) == (
            2,
            "error: none.toml: cannot be read: No such file or directory; make one with `skerry init`\n",
        )


def test_a_data_directory_that_cannot_be_is_1(call: Call, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    (tmp_path / "skerry.toml").write_text('[node]\nname = "box"\n')
    answer = call("run")
    assert answer.code == 1
    assert answer.err == f"error: {tmp_path}/data/logs: cannot be written: Not a directory; mend node.data_dir or its owner\n"


def test_a_url_that_nobody_answers_is_3(call: Call, free_port: int) -> None:
    answer = call("status", "--url", f"http://127.0.0.1:{free_port}")
    assert answer.code == 3
    assert "connection refused" in answer.err
    assert call("status", "--url", "box:8080").code == 2


def test_the_node_found_by_url_variable_and_file(
    call: Call, node: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(call("status", "--json").out)["node"] == "box"
    monkeypatch.chdir("/")
    assert json.loads(call("status", "--json", "--url", node.url).out)["node"] == "box"
    assert json.loads(call("status", "--json", "--config", tmp_path / "skerry.toml").out)["node"] == "box"
    monkeypatch.setenv("SKERRY_CONFIG", str(tmp_path / "skerry.toml"))
    assert json.loads(call("status", "--json").out)["node"] == "box"


def test_a_running_node_is_found_although_its_file_has_a_fault_by_now(call: Call, node: Serving, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text('[node]\nname = "box"\n[[pipelines]]\nnme = "x"\n')
    assert call("status").code == 0
    assert call("config", "check").code == 2


def test_what_nobody_thought_of_is_one_sentence(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_bytes(b'[node]\nname = "box"\n')
    monkeypatch.setenv("SKERRY_CLOCK_OFFSET", "0s")
    monkeypatch.setattr("skerry.config.load", lambda path, with_models: 1 / 0)
    answer = call("config", "check")
    assert (answer.code, answer.err) == (
        1,
        "error: ZeroDivisionError: division by zero; this is a fault of skerry, -v shows where\n",
    )
    with pytest.raises(ZeroDivisionError):
        main(["config", "check", "-v"])


def test_version_and_help(call: Call) -> None:
    assert call("--version").out.startswith("skerry ")
    text = call("--help")
    assert text.code == 0
    for command in ("init", "run", "demo", "status", "logs", "config", "device", "token", "model", "pipeline", "data"):
        assert f"  {command} " in text.out
    assert max(map(len, text.out.splitlines())) <= 80


def test_help_imports_nothing_heavy() -> None:
    """A measure that does not depend on the machine: of what takes time, nothing is there."""
    heavy = ("asyncio", "numpy", "rich", "aiohttp", "structlog", "msgspec", "nats", "onnxruntime", "skerry.config", "skerry.node")
    code = "import sys\nfrom skerry.cli import main\nmain(['--help'])\n"
    code += f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stderr == "[]\n"


def test_completion(tmp_path: Path) -> None:
    more = {"_SKERRY_COMPLETE": "complete_bash", "COMP_WORDS": "skerry pipeline dead", "COMP_CWORD": "2"}
    done = subprocess.run([*SKERRY], capture_output=True, text=True, env=environment(**more), cwd=tmp_path, check=False)
    assert done.stdout.split() == ["deadletters"]


def test_ctrl_c_is_130(node: Serving, tmp_path: Path) -> None:
    command = [*SKERRY, "data", "tail", "--follow", "-n", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        deadline = time.monotonic() + 10
        while not node.view.streams and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
    assert (child.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_leaves_is_no_traceback(node: Serving, tmp_path: Path) -> None:
    line = f"{sys.executable} -m skerry.cli config schema --json | head -c 1"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_exit_code_of_a_process(tmp_path: Path) -> None:
    done = subprocess.run([*SKERRY, "status"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
