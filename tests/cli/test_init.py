"""`skerry init`: what it writes runs."""

import json
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.cli import starters
from skerry.cli.templates import NAMES, toml
from skerry.config import load
from skerry.device import Recording
from tests.cli.conftest import Call


@pytest.mark.parametrize("template", NAMES)
def test_each_template_is_a_good_configuration(call: Call, tmp_path: Path, template: str) -> None:
    answer = call("init", "here", "--name", "box-1", "--site", 'the "quay" \\ 1', "--template", template)
    assert answer.code == 0
    beside = [f"wrote here/{each}" for each in starters.contents(template)]
    assert answer.out.splitlines() == ["wrote here/skerry.toml", *beside, "wrote here/.gitignore", "next: cd here && skerry run"]
    config = load(tmp_path / "here" / "skerry.toml")
    assert (config.node.name, config.node.site) == ("box-1", 'the "quay" \\ 1')
    assert len(config.pipelines) == (0 if template == "empty" else 1)
    assert call("config", "check", "--config", "here/skerry.toml").code == 0
    assert call("pipeline", "check", "--config", "here/skerry.toml").code == 0


@pytest.mark.parametrize("template", starters.NAMES)
def test_what_comes_with_a_template_does_what_it_says(call: Call, tmp_path: Path, template: str) -> None:
    """The commands in the file's comment, as far as they need no node; and the recording has an alarm that ends."""
    assert call("init", "--template", template).code == 0
    (line,) = (each for each in (tmp_path / "skerry.toml").read_text().splitlines() if "skerry pipeline test" in each)
    _, command = line.split("skerry ")
    assert call(*command.split()).code == 0
    states = [event["state"] for event in json.loads((tmp_path / "expected.json").read_text())["events"]]
    assert states[:2] == ["firing", "cleared"]
    (simulate,) = (each for each in (tmp_path / "skerry.toml").read_text().splitlines() if "skerry device simulate" in each)
    words = simulate.split()
    recording = Recording(tmp_path / words[words.index("--file") + 1], words[words.index("simulate") + 1])
    everything = Recording(tmp_path / words[words.index("--file") + 1], "nobody")
    assert 0 < recording.count < everything.count or template in ("camera", "text-log")


def test_files_of_the_user_stay(call: Call, tmp_path: Path) -> None:
    (tmp_path / "expected.json").write_text("mine")
    answer = call("init", "--template", "energy")
    assert (answer.code, (tmp_path / "expected.json").read_text()) == (0, "mine")
    assert "expected.json" not in answer.out


def test_it_asks_three_things_on_a_terminal(tmp_path: Path) -> None:
    keyboard, terminal = pty.openpty()
    with os.fdopen(keyboard, "r+b", buffering=0) as keys:
        argv = [sys.executable, "-m", "skerry.cli", "init", "there"]
        with subprocess.Popen(argv, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal) as child:
            os.close(terminal)
            said = b""
            for question, answer in ((b"Name of the node", b"box-9\n"), (b"Where it stands", b"\n"), (b"looks at", b"energy\n")):
                while question not in said:
                    said += keys.read(1000)
                keys.write(answer)
            assert child.wait(30) == 0
    config = load(tmp_path / "there" / "skerry.toml")
    assert (config.node.name, config.node.site, config.pipelines[0].name) == ("box-9", "site", "energy")


@pytest.mark.parametrize("template", ["readings", "empty"])
def test_the_lines_that_are_commented_out_are_good_too(tmp_path: Path, template: str) -> None:
    """Taking away `# ` before a setting must give a good file (but for those that name a model, which is not there)."""
    lines = toml(template, "box", "quay").splitlines()
    bare = [line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in lines]
    file = tmp_path / "skerry.toml"
    text = "\n".join(
        line for line in bare if not line.startswith(("[[models]]", "file =", 'name = "mine"', "model =", "A model", "#"))
    )
    file.write_text("\n".join(line for line in text.splitlines() if not line.startswith(("Every key", "One pipeline", "Each key"))))
    config = load(file)
    assert config.broker.anonymous
    assert config.resources.memory == "1GiB"
    assert all(spec.rule is not None for spec in config.pipelines)


@given(st.sampled_from(NAMES), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_site_is_quoted_well(template: str, site: str) -> None:
    assert tomllib.loads(toml(template, "box", site))["node"]["site"] == site


def test_nothing_is_written_over(call: Call, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    assert call("init").code == 0
    before = (tmp_path / "skerry.toml").read_text()
    answer = call("init", "--name", "other")
    assert (answer.code, answer.err) == (1, "error: skerry.toml: is there already; --force writes over it\n")
    assert (tmp_path / "skerry.toml").read_text() == before
    assert call("init", "--name", "other", "--force").code == 0
    assert load(tmp_path / "skerry.toml").node.name == "other"
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--name", "a b"], 2, "--name: 'a b' is not a node name"),
        (["--template", "reading"], 2, "--template: there is no template 'reading', did you mean 'readings'?"),
        (["file/below"], 1, "file/below/skerry.toml: cannot be written"),
    ],
)
def test_what_is_wrong(call: Call, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "file").write_text("")
    answer = call("init", *arguments)
    assert answer.code == code
    assert said in answer.err
    assert not (tmp_path / "skerry.toml").exists()


def test_json_and_quiet(call: Call) -> None:
    assert json.loads(call("init", "a", "--json").out) == {"written": ["a/skerry.toml", "a/.gitignore"]}
    assert call("init", "b", "-q").out == ""
