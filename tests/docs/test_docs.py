"""The documents are true: what they show parses, exists and gives what they say."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from skerry import config
from skerry.api.handlers import Handlers
from skerry.cli.app import app
from skerry.cli.entry import hoist
from skerry.inference import ModelConfig
from skerry.node.metrics import Figures, render
from skerry.pipeline.rule import RuleSpec
from skerry.pipeline.spec import PipelineSpec, SinkSpec, SourceSpec
from skerry.window.names import NAMES
from skerry.window.spec import WindowSpec
from tests.api.fake_view import FakeView
from tests.docs.blocks import DOCUMENTS, ROOT, Block, anchors, blocks, calls, commands, table_names

QUICKSTART = ROOT / "examples" / "quickstart"
GUIDE = (ROOT / "docs" / "guide.md").read_text("utf-8")
MODELS = (ROOT / "docs" / "models.md").read_text("utf-8")
USAGE_ERROR = typer.BadParameter.__mro__[1]
ALONE = [path for path in DOCUMENTS if path.name != "tutorial.md"]
"""The documents whose blocks stand each for itself; those of the tutorial follow one another (test_tutorial.py)."""
FRAGMENT = '[[pipelines]]\nname = "shown"\n'
SOURCE = 'source = { topic = "devices/+/x", values = ["x"] }\n'
API = re.compile(r"127\.0\.0\.1:\d+(/[^?]*)")


def complaint(arguments: list[str]) -> str:
    """What the command line has against these arguments, without running anything."""
    command: Any = typer.main.get_command(app)
    left, context = hoist(arguments), None
    try:
        while True:
            context = command.make_context(command.name or "skerry", left, parent=context)
            if not hasattr(command, "resolve_command"):
                return ""
            _, command, left = command.resolve_command(context, [*context._protected_args, *context.args])
    except USAGE_ERROR as error:
        return f"{arguments}: {error}"


def parse_toml(text: str, folder: Path) -> config.NodeConfig:
    """A block as a configuration; keys of a pipeline alone are put into one."""
    keys = set(tomllib.loads(text))
    if keys <= set(PipelineSpec.__struct_fields__):
        text = FRAGMENT + ("" if "source" in keys else SOURCE) + text
    file = folder / "skerry.toml"
    file.write_text(text, encoding="utf-8")
    return config.load(file)


def by_place(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", blocks("toml", ALONE), ids=by_place)
def test_toml_is_a_configuration(block: Block, tmp_path: Path) -> None:
    assert parse_toml(block.text, tmp_path).pipelines


def test_there_are_commands_in_the_documents() -> None:
    assert len(calls("skerry")) > 40
    assert len(calls("curl")) > 15


def test_every_command_line_exists() -> None:
    assert [f"{place}: {fault}" for place, arguments in calls("skerry") if (fault := complaint(arguments))] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["pipeline", "tset", "a", "b"],
        ["pipeline", "test", "a"],
        ["status", "--jsno"],
        ["device", "add", "a", "--topic"],
        ["nosuch"],
    ],
)
def test_a_wrong_command_line_is_found(arguments: list[str]) -> None:
    assert complaint(arguments)


def test_every_http_call_has_an_endpoint() -> None:
    handlers = Handlers(FakeView(), "0")
    known = [(each.method, re.compile(re.sub(r"{\w+}", "[^/]+", each.pattern))) for each in handlers.endpoints()]
    known += [(each.method, re.compile(each.pattern.replace("{rest:.*}", ".+"))) for each in handlers.inference_routes()]
    for place, words in calls("curl"):
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        paths = [found[1] for word in words if (found := API.search(word))]
        assert len(paths) == 1, (place, words)
        assert any(method == each and pattern.fullmatch(paths[0]) for each, pattern in known), (place, method, paths[0])


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    wanted = {word for _, words in calls("make") for word in words if "=" not in word and not word.startswith("-")}
    assert wanted <= targets


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_tables_are_complete() -> None:
    assert table_names("docs/guide.md", "Features") == set(NAMES)
    metrics = set(re.findall(r"^# TYPE (\S+)", render(Figures()), re.MULTILINE))
    assert table_names("docs/operations.md", "Metrics") == metrics


def test_every_setting_is_in_the_guide_with_its_default() -> None:
    later = {"storage", "history", "dashboard", "cluster", "uplink"}
    rows = dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| ([^|]*) \|", GUIDE, re.MULTILINE))
    for key, value, _ in config.show(None):
        section = key.partition(".")[0]
        assert f"`{key}`" in GUIDE or (section in later and re.search(rf"`\[?{section}[\]`.]", GUIDE)), key
        shown = rows.get(key, "").strip()
        if shown.startswith("`"):
            assert tomllib.loads(f"it = {shown.strip('`')}")["it"] == json.loads(json.dumps(msgspec.to_builtins(value))), key
    for field in msgspec.structs.fields(ModelConfig):
        assert f"`{field.encode_name}`" in MODELS, field.encode_name
    for kind in (SourceSpec, WindowSpec, RuleSpec, SinkSpec, PipelineSpec):
        for field in msgspec.structs.fields(kind):
            if (kind, field.name) != (SinkSpec, "forward"):  # its keys stand beside the sink's own
                assert re.search(rf"\b{field.encode_name}\b", GUIDE), field.encode_name


def test_the_event_of_the_guide_is_the_quickstart_s() -> None:
    expected = json.loads((QUICKSTART / "expected.json").read_text("utf-8"))
    assert [json.loads(block.text) for block in blocks("json")] == [expected["events"][0]]


@pytest.mark.parametrize("block", blocks("python", ALONE), ids=by_place)
def test_python_runs(block: Block, quickstart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(quickstart)
    names: dict[str, Any] = {"__name__": "shown"}
    exec(compile(block.text, block.place, "exec"), names)
    if block.info.startswith("file="):
        (quickstart / block.info.removeprefix("file=")).write_text(block.text, encoding="utf-8")
        toml = (quickstart / "skerry.toml").read_text("utf-8")
        toml = re.sub(r"^(model|rule) = .*$", "", toml, flags=re.MULTILINE)
        toml = re.sub(r"^features = .*$", 'features = "ratios:features"', toml, flags=re.MULTILINE)
        (quickstart / "skerry.toml").write_text(toml, encoding="utf-8")
        from skerry import Pipeline

        events = Pipeline.from_config("skerry.toml", "motor-load").test("recorded.csv")
        assert len(events) == 24
        assert events[0]["features"] == {"current_per_degree": events[0]["score"], "samples": 5.0}
        assert events[0]["score"] == pytest.approx(5.0 / 45.0, rel=0.05)


def test_shell_blocks_are_cut_into_commands() -> None:
    block = Block("", "sh", "", "a 'b # c' > out.txt  # why\nsudo -u x /opt/d && e | f; g\n\nh \\\n  i\n")
    assert list(commands(block)) == [["a", "b # c"], ["sudo", "-u", "x", "/opt/d"], ["e"], ["f"], ["g"], ["h", "i"]]
