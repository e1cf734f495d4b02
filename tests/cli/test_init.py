"""`skerry init`: what it writes runs."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.cli.templates import NAMES, toml
from skerry.config import load
from tests.cli.conftest import Call


@pytest.mark.parametrize("template", NAMES)
def test_each_template_is_a_good_configuration(call: Call, tmp_path: Path, template: str) -> None:
    answer = call("init", "here", "--name", "box-1", "--site", 'the "quay" \\ 1', "--template", template)
    assert answer.code == 0
    assert answer.out.splitlines() == ["wrote here/skerry.toml", "wrote here/.gitignore", "next: cd here && skerry run"]
    config = load(tmp_path / "here" / "skerry.toml")
    assert (config.node.name, config.node.site) == ("box-1", 'the "quay" \\ 1')
    assert len(config.pipelines) == (0 if template == "empty" else 1)
    assert call("config", "check", "--config", "here/skerry.toml").code == 0
    assert call("pipeline", "check", "--config", "here/skerry.toml").code == 0


@pytest.mark.parametrize("template", NAMES)
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
