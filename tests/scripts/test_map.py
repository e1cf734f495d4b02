"""The map of the tree: what it shows, and that a wrong one is noticed."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


the_map = load("map")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "__init__.py": "The package.",
        "node.py": "One node. Wires the rooms.",
        "core/__init__.py": "The ground floor.",
        "core/units.py": 'Values with units: "1 MiB".\n\nMore.',
        "cli/__init__.py": "The command line.",
        "cli/main.py": "Commands, some\nof them long. Not this.",
    }
    for name, text in files.items():
        path = tmp_path / "src" / "skerry" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""{text}"""\n' if '"' not in text else f"'''{text}'''\n")
    return tmp_path


def test_one_line_a_file_top_floor_first(tree: Path) -> None:
    assert the_map.render(tree).splitlines()[2:-2] == [
        "src/  the package; its rooms below, top floor first",
        "",
        "src/skerry/   The package",
        "  cli/        The command line",
        "    main.py   Commands, some of them long",
        "  node.py     One node",
        "  core/       The ground floor",
        '    units.py  Values with units: "1 MiB"',
    ]


def test_written_map_passes_the_check_and_keeps_the_text_around_it(tree: Path) -> None:
    document = tree / "ARCHITECTURE.md"
    document.write_text("# Architecture\n")
    assert the_map.main(["--check"], tree) == 1
    assert the_map.main(["--write"], tree) == 0
    assert the_map.main(["--check"], tree) == 0
    document.write_text(document.read_text() + "\nAfter.\n")
    assert the_map.main(["--write"], tree) == 0
    assert document.read_text().startswith("# Architecture\n")
    assert document.read_text().endswith("\nAfter.\n")
    assert document.read_text().count("```text") == 1


@pytest.mark.parametrize("change", ["new file", "removed file", "other sentence"])
def test_a_tree_that_moved_on_is_noticed(tree: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    the_map.main(["--write"], tree)
    node = tree / "src" / "skerry" / "node.py"
    if change == "new file":
        node.with_name("config.py").write_text('"""The one file."""\n')
    elif change == "removed file":
        node.unlink()
    else:
        node.write_text('"""Two nodes."""\n')
    assert the_map.main(["--check"], tree) == 1
    assert "--write" in capsys.readouterr().err


def test_a_module_without_docstring_is_named(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "src" / "skerry" / "core" / "clock.py").write_text("x = 1\n")
    assert the_map.main(["--write"], tree) == 1
    assert "core/clock.py" in capsys.readouterr().err


def test_an_unknown_top_folder_is_named(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "misc").mkdir()
    (tree / "misc" / "file").write_text("")
    assert the_map.main(["--check"], tree) == 1
    assert "misc" in capsys.readouterr().err


def test_caches_and_empty_folders_are_no_part_of_the_tree(tree: Path) -> None:
    before = the_map.render(tree)
    (tree / "src" / "skerry" / "core" / "__pycache__").mkdir()
    (tree / "empty").mkdir()
    (tree / ".venv").mkdir()
    assert the_map.render(tree) == before


def test_the_map_of_this_tree_is_right() -> None:
    assert the_map.main(["--check"]) == 0
