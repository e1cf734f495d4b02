"""The rules of the house that no linter knows, each with a sample that breaks it."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("src", "tests", "bench", "examples", "scripts")
IGNORED = {".git", ".venv", "build", "dist", "data", "__pycache__"}
MOST_LINES = 400
# Pure vocabulary: these two rooms may be imported by module path.
OPEN_ROOMS = {"core", "window"}

MACHINE_PATH = re.compile(r"(?<![\w.*-])/(?:work|farm|root)/|(?<![\w.*-])/home/\w")
INDEX = re.compile(r"--(?:extra-)?index-url[ =]|--find-links[ =]|https?://\S+/simple\b")
MOCK = re.compile(r"^(?:Magic|Async|NonCallable\w*)?Mock$|^mocker$")
SILENCED = re.compile(r"type:\s*ignore|\bnoqa\b|pragma:\s*no cover")
NAMED = r"(?:type: ignore\[[\w, -]+\]|noqa: [A-Z]+\d+(?:,\s*[A-Z]+\d+)*|pragma: no cover)"
WITH_REASON = re.compile(NAMED + r"[\s#:—–-]+\w[^#]{7,}")
WALL_CLOCK = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if not IGNORED & set(path.parts))


def texts() -> Iterator[Path]:
    """Every text file of the repository, found without git so that an unpacked archive can be tested too."""
    for top in sorted(ROOT.iterdir()):
        if top.name in IGNORED or top.name.endswith("_cache") or top.name == ".hypothesis":
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            inside = path.relative_to(ROOT).parts
            if path.is_file() and not {"__pycache__", ".venv"} & set(inside) and b"\0" not in path.read_bytes()[:4096]:
                yield path


def lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def mocks(text: str) -> list[str]:
    faults = []
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("unittest.mock")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unittest"):
            names = [alias.name for alias in node.names if "mock" in f"{node.module}.{alias.name}".lower()]
        elif isinstance(node, ast.Name | ast.arg):
            name = node.id if isinstance(node, ast.Name) else node.arg
            names = [name] if MOCK.match(name) else []
        faults += [f"{getattr(node, 'lineno', 0)}: {name}" for name in names]
    return faults


def silenced_without_reason(text: str) -> list[str]:
    return [
        f"{token.start[0]}: {token.string}"
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and SILENCED.search(token.string) and not WITH_REASON.search(token.string)
    ]


def skipped_without_reason(text: str) -> list[str]:
    tree = ast.parse(text)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, positional = ast.unparse(node.func), node.args
            reason = next((each.value for each in node.keywords if each.arg == "reason"), None)
            if name in {"pytest.skip", "pytest.xfail", "pytest.mark.skip"} and positional:
                reason = reason or positional[0]
            wanted = name in {"pytest.skip", "pytest.xfail", "pytest.importorskip"}
            wanted |= name in {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
            if wanted and (reason is None or (isinstance(reason, ast.Constant) and not reason.value)):
                faults.append(f"{node.lineno}: {name}")
        elif isinstance(node, ast.Attribute) and id(node) not in called:
            name = ast.unparse(node)
            if name in {"pytest.mark.skip", "pytest.mark.xfail"}:
                faults.append(f"{node.lineno}: {name}")
    return faults


def wall_clock_reads(text: str) -> list[str]:
    return [
        f"{node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ".".join(ast.unparse(node.func).split(".")[-2:]) in WALL_CLOCK
    ]


def imported(text: str, module: str) -> Iterator[tuple[int, str, str]]:
    """Line, module and name of each import; the name is empty for `import a.b`. `module` resolves relative ones."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, source, alias.name) for alias in node.names)


def through_the_wall(text: str, module: str, has_module: Callable[[str, str], bool]) -> list[str]:
    """Imports of another room's module instead of what its `__init__.py` exports."""
    own = module.split(".")[1] if "." in module else ""
    faults = []
    for line, source, name in imported(text, module):
        package, _, rest = source.partition(".")
        room, _, inner = rest.partition(".")
        if package != "skerry" or not room or room == own or room in OPEN_ROOMS:
            continue
        if inner or (name and has_module(room, name)):
            faults.append(f"{line}: {source}{'.' + name if name and not inner else ''}")
    return faults


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts)


def has_module(room: str, name: str) -> bool:
    folder = ROOT / "src" / "skerry" / room
    return (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()


def collect(paths: list[Path], rule: Callable[[str], list[str]]) -> list[str]:
    return [f"{named(path)}:{fault}" for path in paths for fault in rule(path.read_text("utf-8"))]


def test_no_module_is_too_long() -> None:
    assert [f"{named(path)}: {lines(path)}" for path in modules(*CODE) if lines(path) > MOST_LINES] == []


def test_tests_are_at_least_as_long_as_what_they_test() -> None:
    tests, source = (sum(lines(path) for path in modules(folder)) for folder in ("tests", "src"))
    assert tests >= source


def test_no_mocks() -> None:
    assert collect(modules(*CODE), mocks) == []


def test_what_is_silenced_has_its_reason_beside_it() -> None:
    assert collect(modules(*CODE), silenced_without_reason) == []
    assert collect(modules("tests"), skipped_without_reason) == []


def test_only_the_clock_reads_the_wall_clock() -> None:
    clock = ROOT / "src" / "skerry" / "core" / "clock.py"
    assert collect([path for path in modules("src") if path != clock], wall_clock_reads) == []


def test_rooms_are_entered_by_the_door() -> None:
    faults = []
    for path in modules("src"):
        found = through_the_wall(path.read_text("utf-8"), dotted(path), has_module)
        faults += [f"{named(path)}:{fault}" for fault in found]
    assert faults == []


def test_no_file_names_one_machine_or_one_index() -> None:
    faults = []
    for path in texts():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if MACHINE_PATH.search(line) or INDEX.search(line):
                faults.append(f"{named(path)}:{number}: {line.strip()[:100]}")
    assert faults == []


def test_what_is_read_is_not_empty() -> None:
    found = {named(path) for path in texts()}
    assert {"pyproject.toml", "requirements/run.txt", "tests/test_house.py", ".ci/run"} <= found
    assert len(modules("src")) > 5


SKIPS = "import pytest\n"


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (mocks, "from unittest.mock import patch", "import unittest"),
        (mocks, "from unittest import mock", "from skerry.core import clock"),
        (mocks, "import unittest.mock", "import unittest.case"),
        (mocks, "def test(mocker): ...", "def test(monkeypatch): ..."),
        (mocks, "MagicMock()", "Hammock()"),
        (silenced_without_reason, "x = 1  # type: ignore", "x = '# type: ignore'"),
        (silenced_without_reason, "x = 1  # type: ignore[misc]", "x = 1  # type: ignore[misc]  # the stub is wrong"),
        (silenced_without_reason, "x = 1  # noqa: BLE001", "x = 1  # noqa: BLE001 - a plug-in may raise anything"),
        (silenced_without_reason, "x = 1  # noqa: S1, E2", "x = 1  # noqa: S101, E501  # a table is easier to read"),
        (skipped_without_reason, SKIPS + "pytest.skip('')", SKIPS + "pytest.skip('needs strace')"),
        (skipped_without_reason, SKIPS + "pytest.importorskip('x')", SKIPS + "pytest.importorskip('x', reason='y')"),
        (skipped_without_reason, "@pytest.mark.skip\ndef f(): ...", "@pytest.mark.skip('why')\ndef f(): ..."),
        (skipped_without_reason, "pytest.mark.skipif(x)", "pytest.mark.skipif(x, reason='why')"),
        (wall_clock_reads, "time.time()", "clock.now()"),
        (wall_clock_reads, "datetime.datetime.now(UTC)", "loop.time()"),
    ],
)
def test_each_rule_can_fail(rule: Callable[[str], list[str]], bad: str, good: str) -> None:
    assert len(rule(bad)) == 1
    assert rule(good) == []


@pytest.mark.parametrize(
    ("text", "module", "faults"),
    [
        ("from skerry.broker.wire import Wire", "skerry.worker.reader", 1),
        ("import skerry.broker.wire", "skerry.worker.reader", 1),
        ("from skerry.broker import wire", "skerry.worker.reader", 1),
        ("from ..broker.wire import Wire", "skerry.worker.reader", 1),
        ("from skerry.broker import Wire", "skerry.worker.reader", 0),
        ("from skerry.broker.wire import Wire", "skerry.broker.reader", 0),
        ("from .wire import Wire", "skerry.broker.reader", 0),
        ("from skerry.core.errors import ConfigError", "skerry.worker.reader", 0),
        ("from skerry.config import Config", "skerry.node", 0),
        ("import numpy.typing", "skerry.node", 0),
    ],
)
def test_a_way_through_the_wall_is_seen(text: str, module: str, faults: int) -> None:
    def exists(room: str, name: str) -> bool:
        return (room, name) == ("broker", "wire")

    assert len(through_the_wall(text, module, exists)) == faults


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("see /" + "work/main", True),
        ("'/" + "home/ann/x'", True),
        ("--extra-" + "index-url https://example.org", True),
        ("https://example.org/" + "simple", True),
        ("src/network/work/x, ~/home, https://example.org/simpler", False),
    ],
)
def test_a_machine_or_index_is_seen(line: str, found: bool) -> None:
    assert bool(MACHINE_PATH.search(line) or INDEX.search(line)) is found
