"""The site's source: every page is there, every link leads somewhere, the reference has all that the code has."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import typer

import skerry
from scripts import man, reference, site
from skerry import config
from skerry.api.handlers import Handlers
from skerry.cli.app import app
from skerry.node.metrics import Figures, render
from tests.api.fake_view import FakeView

ROOT = Path(__file__).resolve().parents[2]
MKDOCS = ROOT / ".venv" / "docs" / "bin" / "mkdocs"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "docs"
    pages = site.assemble(folder)
    assert Path("docs/tutorial.md") in pages
    return folder


def test_the_command_line_is_whole(built: Path) -> None:
    text = (built / "reference" / "cli.md").read_text("utf-8")
    root = typer.main.get_command(app)
    context = root.make_context("skerry", [], resilient_parsing=True)
    paths = [inside.command_path for _, inside in man.leaves(root, context)]
    assert len(paths) > 50
    assert [path for path in paths if f"## {path}\n" not in text] == []
    assert "| `--scenario NAME` |" in text


def test_the_configuration_is_whole(built: Path) -> None:
    text = (built / "reference" / "config.md").read_text("utf-8")
    for key, _, _ in config.show(None):
        assert f"| `{key.rpartition('.')[2]}` |" in text or key.count(".") > 1, key
    for name in re.findall(r"\]\(#(\w+)\)", text):
        assert re.search(rf"^## {name}$", text, re.MULTILINE | re.IGNORECASE), name


def test_http_is_whole(built: Path) -> None:
    text = (built / "reference" / "http.md").read_text("utf-8")
    endpoints = Handlers(FakeView(), "0").endpoints()
    assert [each.pattern for each in endpoints if f"\n## {each.method} {each.pattern}\n" not in text] == []


def test_python_and_metrics_are_whole(built: Path) -> None:
    text = (built / "reference" / "python.md").read_text("utf-8")
    assert [name for name in skerry.__all__ if not re.search(rf"^## (skerry\.)?{name}$", text, re.MULTILINE)] == []
    assert "### Pipeline.explain" in text
    assert " at 0x" not in text, "an address would be another one each time"
    metrics = re.findall(r"^# TYPE (\S+)", render(Figures()), re.MULTILINE)
    text = (built / "reference" / "metrics.md").read_text("utf-8")
    assert [name for name in metrics if f"| `{name}` |" not in text] == []
    assert reference.pages().keys() == {each.name for each in (built / "reference").iterdir()}


def test_links_are_made_to_lead_to_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "ROOT", tmp_path)
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / "README.md").write_text("# It\n")
    (tmp_path / "without").mkdir()
    (tmp_path / "a.py").write_text("")
    page = tmp_path / "a.md"
    page.write_text(
        "[a](with) [b](without) [c](a.py#x) [d](https://x.y) [e](#here)\n- an item\n- another\n\n"
        "```sh file=z.sh\n- [f](none)\n```\n"
    )
    text, linked = site.page(page)
    assert text == (
        "[a](with/README.md) b [c](a.py#x) [d](https://x.y) [e](#here)\n\n- an item\n- another\n\n"
        '```sh title="z.sh"\n- [f](none)\n```\n'
    )
    assert linked == [tmp_path / "with" / "README.md", tmp_path / "a.py"]
    page.write_text("[a](nothing.md)")
    with pytest.raises(FileNotFoundError, match="which is not there"):
        site.page(page)


def test_every_page_of_the_documents_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert [path.name for path in ROOT.glob("docs/*.md") if f"docs/{path.name}" not in menu] == []
    assert [name for name in reference.pages() if f"reference/{name}" not in menu] == []


@pytest.mark.parametrize(("group", "file"), [("main", "RESULTS.md"), ("inference", "RESULTS-inference.md")])
def test_the_figures_of_the_comparison_are_measured_ones(group: str, file: str) -> None:
    """`python -m bench --write` writes both; nobody has touched one alone."""
    page = (ROOT / "docs" / "comparison.md").read_text("utf-8")
    block = page.partition(f"<!-- measured: {group};")[2].partition("<!-- end of measured")[0]
    shown = [line.split(" | ")[:4] for line in block.splitlines() if line.startswith("| ")][2:]
    lines = [line for line in (ROOT / "bench" / file).read_text("utf-8").splitlines() if line.startswith("| ")][2:]
    measured = [[f"| {figure}", *rest] for _, figure, *rest in (line.split(" | ")[:5] for line in lines)]
    assert len(shown) > 8
    assert shown == measured


def test_the_site_is_built_and_asks_nobody_for_anything(built: Path, tmp_path: Path) -> None:
    if not MKDOCS.exists():
        pytest.skip(reason="optional: `make docs` has not been run")
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    settings = settings.replace("build/docs", str(built)).replace("build/site", str(tmp_path / "out"))
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    argv = [str(MKDOCS), "build", "--quiet", "--strict", "--config-file", str(tmp_path / "mkdocs.yml")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    fetched = r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(https?:)?//'
    for page in (tmp_path / "out").rglob("*.html"):
        assert re.search(fetched, page.read_text("utf-8")) is None, page
