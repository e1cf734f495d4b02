"""Keeps the map in ARCHITECTURE.md equal to the tree: a line per file, the first sentence of its docstring."""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- map: written by scripts/map.py --write -->\n```text\n", "```\n<!-- end of map -->\n"
FOLDERS = {
    "bench": "each figure that the README quotes, printed by one command",
    "docs": "decisions and their reasons (adr/), and what a user looks up",
    "examples": "complete uses on real recordings",
    "packaging": "systemd unit and its installer, container file, alerts and a dashboard",
    "requirements": "locked dependencies with the hashes of all their wheels",
    "scripts": "lock, map, programs that the tests need",
    "src": "the package; its rooms below, top floor first",
    "tests": "mirrors the rooms; system/ starts real nodes and kills them",
}
# Floors from the top; a room that is not named comes last, and import-linter refuses it.
ORDER = (
    *("cli", "demo", "node", "config", "api", "dashboard", "worker", "serving", "historian", "connector", "uplink", "bundle"),
    *("pipeline", "device", "cluster"),
    *("http", "trust", "window", "inference", "store", "mqtt", "broker", "core", "runtime"),
)
SENTENCE = re.compile(r"(.+?[.!?])(?:\s|$)", re.DOTALL)


class MapError(Exception):
    """The tree has something that the map cannot describe."""


def first_sentence(path: Path) -> str:
    """First sentence of a module's docstring without its full stop, or an empty string."""
    paragraph = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n\n", maxsplit=1)[0]
    found = SENTENCE.match(paragraph)
    return " ".join((found.group(1) if found else paragraph).split()).rstrip(".")


def modules(package: Path) -> Iterator[tuple[int, Path]]:
    """Depth and path of each module below a package: its `__init__.py` first, files before folders."""

    def walk(folder: Path, depth: int) -> Iterator[tuple[int, Path]]:
        def key(path: Path) -> tuple[int, int, bool, str]:
            rank = ORDER.index(path.stem) if folder == package and path.stem in ORDER else len(ORDER)
            return (-1 if path.suffix and rank == len(ORDER) else 0, rank, path.is_dir(), path.name)

        for path in sorted(folder.iterdir(), key=key):
            if path.is_dir() and any(path.rglob("*.py")):
                yield depth, path
                yield from walk(path, depth + 1)
            elif path.suffix == ".py" and path.name != "__init__.py":
                yield depth, path

    yield from walk(package, 0)


def describe(package: Path) -> tuple[list[str], list[Path]]:
    """Lines of the map for a package, and the files that have no docstring to take a line from."""
    rows = [(f"src/{package.name}/", package / "__init__.py")]
    for depth, path in modules(package):
        name = "  " * (depth + 1) + path.name + ("/" if path.is_dir() else "")
        rows.append((name, path / "__init__.py" if path.is_dir() else path))
    width = max(len(name) for name, _ in rows) + 2
    sentences = {source: first_sentence(source) if source.exists() else "" for _, source in rows}
    lines = [f"{name:<{width}}{sentences[source]}".rstrip() for name, source in rows]
    return lines, [source for source, sentence in sentences.items() if not sentence]


def folders(root: Path) -> list[str]:
    """A line per top folder that holds a file of the project.

    Raises:
        MapError: a folder has no line in `FOLDERS`.
    """
    caches = {"build", "dist", "data", "__pycache__"}
    present = [path.name for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    present = [name for name in present if name not in caches and not name.endswith(".egg-info")]
    present = [name for name in present if any(path.is_file() for path in (root / name).rglob("*"))]
    if unknown := [name for name in present if name not in FOLDERS]:
        raise MapError(f"give {', '.join(unknown)} a line in FOLDERS of scripts/map.py, or remove it")
    width = max(len(name) for name in present) + 3
    return [f"{name + '/':<{width}}{FOLDERS[name]}" for name in present]


def render(root: Path) -> str:
    """The fenced block for a tree.

    Raises:
        MapError: a module has no docstring, or a top folder no description.
    """
    lines, bare = describe(root / "src" / "skerry")
    if bare:
        names = ", ".join(str(path.relative_to(root)) for path in bare)
        raise MapError(f"a module needs a docstring, whose first sentence is its line in the map: {names}")
    return BEGIN + "\n".join([*folders(root), "", *lines]) + "\n" + END


def replace(text: str, block: str) -> str:
    """The document with its block replaced, or with the block at its end where it had none."""
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        return text.rstrip("\n") + ("\n\n" if text.strip() else "") + block
    return text[:begin] + block + text[end + len(END) :]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Writes or checks the map; returns 1 with a sentence on stderr where it does not equal the tree."""
    parser = argparse.ArgumentParser(description="Keep the map in ARCHITECTURE.md equal to the tree.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="exit 1 if the map does not equal the tree")
    action.add_argument("--write", action="store_true", help="write the map")
    args = parser.parse_args(arguments)
    document = root / "ARCHITECTURE.md"
    before = document.read_text("utf-8") if document.exists() else ""
    try:
        after = replace(before, render(root))
    except MapError as error:
        print(f"ARCHITECTURE.md: {error}", file=sys.stderr)
        return 1
    if args.write:
        document.write_text(after, "utf-8")
    elif after != before:
        print("ARCHITECTURE.md: the map does not equal the tree: scripts/map.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
