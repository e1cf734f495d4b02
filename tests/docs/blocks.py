"""Fenced blocks and tables of the documents, and what is in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REDIRECT = re.compile(r"\s\d?>{1,2}\s*\S+")


class Block(NamedTuple):
    """One fenced block: its place, language, the rest of its opening line, its text."""

    place: str
    language: str
    info: str
    text: str


def every(path: Path) -> list[Block]:
    """All blocks of one document, in its order."""
    content = path.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(content):
        line = content.count("\n", 0, match.start()) + 1
        found.append(Block(f"{path.relative_to(ROOT)}:{line}", match[1], match[2].strip(), match[3]))
    return found


def blocks(language: str, documents: list[Path] | None = None) -> list[Block]:
    """All blocks of a language."""
    return [block for path in documents or DOCUMENTS for block in every(path) if block.language == language]


def commands(block: Block) -> Iterator[list[str]]:
    """The simple commands of a shell block, as words; redirections and comments left out."""
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(_REDIRECT.sub("", line), posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def calls(program: str, documents: list[Path] | None = None) -> list[tuple[str, list[str]]]:
    """Place and arguments of every call of a program in shell blocks; also behind `sudo -u USER` and with a path before it."""
    found = []
    for block in blocks("sh", documents):
        for words in commands(block):
            bare = words[3:] if words[:2] == ["sudo", "-u"] else words
            if bare and Path(bare[0]).name == program:
                found.append((block.place, bare[1:]))
    return found


def table_names(document: str, heading: str) -> set[str]:
    """Names between backticks in the first column of the first table under a heading."""
    section = (ROOT / document).read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}


def anchors(path: Path) -> set[str]:
    """Anchors that GitHub makes of a document's headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(_FENCE, "", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
