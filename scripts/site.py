"""The source of the documents' site: `scripts/site.py DIR` puts every page that is linked and the reference out of the code there.

Pages stand as in the repository, so that links between them need no change. What a page links beside pages is copied; a link to a
directory becomes one to its README.md, or plain text where it has none. `make docs` builds the site from it.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from scripts import reference

ROOT = Path(__file__).resolve().parents[1]
FIRST = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)
_OPENING = re.compile(r"^```(\w+) ([^\n]+)")
_ITEM = re.compile(r"^([^\n]*[^\n\s][^\n]*)\n((?:[-*]|\d+\.) )", re.MULTILINE)


def assemble(target: Path) -> list[Path]:
    """Write all pages and files; the pages, relative to `target`. Raises `FileNotFoundError` for a link to nothing."""
    shutil.rmtree(target, ignore_errors=True)
    left = [*(ROOT / name for name in FIRST), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/adr/[0-9]*.md"))]
    seen: set[Path] = set()
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        there = target / path.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".md":
            shutil.copyfile(path, there)
            continue
        text, linked = page(path)
        there.write_text(text, encoding="utf-8")
        left += linked
    (target / "wrap.css").write_text(".language-text pre > code { white-space: pre-wrap; }\n", encoding="utf-8")
    (target / "reference").mkdir()
    for name, text in reference.pages().items():
        (target / "reference" / name).write_text(text, encoding="utf-8")
    return sorted(each.relative_to(target) for each in target.rglob("*.md"))


def page(path: Path) -> tuple[str, list[Path]]:
    """A page's text as the site takes it, and the files that it links."""
    linked: list[Path] = []

    def link(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        there = (path.parent / target).resolve()
        if there.is_dir():
            there /= "README.md"
            if not there.is_file():
                return text
        if not there.is_file():
            raise FileNotFoundError(f"{path.relative_to(ROOT)} links {target}, which is not there")
        if there.relative_to(ROOT).parts[0] == ".venv":
            return text
        linked.append(there)
        return f"{picture}[{text}]({os.path.relpath(there, path.parent)}{anchor or ''})"

    parts = _FENCE.split(path.read_text("utf-8"))
    # every other part is a fenced block
    parts[1::2] = [_OPENING.sub(lambda match: f"```{match[1]}{_title(match[2])}", part) for part in parts[1::2]]
    parts[::2] = [_spaced(_LINK.sub(link, part)) for part in parts[::2]]
    return "".join(parts), linked


def _title(info: str) -> str:
    """What stands behind a block's language, as the site takes it: the name of a file; the rest is for the tests."""
    return f' title="{info.removeprefix("file=")}"' if info.startswith("file=") else ""


def _spaced(text: str) -> str:
    """An empty line before the first item of a list, which GitHub does without."""
    return _ITEM.sub(lambda match: match[0] if _is_item(match[1]) else f"{match[1]}\n\n{match[2]}", text)


def _is_item(line: str) -> bool:
    return bool(re.match(r"\s*([-*]|\d+\.) |\s{2,}\S", line))


if __name__ == "__main__":
    print(f"{len(assemble(Path(sys.argv[1])))} pages in {sys.argv[1]}", file=sys.stderr)
