"""Reasons, states, exit codes and kinds of errors are the same words in the code, in `skerry explain` and in the documents."""

import re
from pathlib import Path

import pytest

from skerry import errors
from skerry.api import gate
from skerry.cli import entry
from skerry.cli.explain import Word, words
from skerry.cluster import NodeStatus
from skerry.http.problem import _KINDS
from skerry.pipeline import decode, runner
from skerry.pipeline import state as pipeline_state
from skerry.window import state
from skerry.worker import merge
from tests.docs.blocks import ROOT
from tests.docs.test_docs import complaint

SRC = ROOT / "src" / "skerry"
SOURCES = ("broker/callout.py", "device/authenticator.py", "device/login.py", "node/life.py", "node/link.py", "node/linking.py")
REASON = re.compile(r"(?:(?:Refusal|Verdict|refuse_new|_count)\(|\breason = )\"([a-z-]+)\"")
STATE = re.compile(
    r'return "([a-z]+)", |state, reason = "([a-z]+)"|state="([a-z]+)"|"([a-z]+)" if self\.\w+|else "([a-z]+)",$', re.MULTILINE
)
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
GUIDE, OPERATIONS, CLUSTER = "guide.md", "operations.md", "cluster.md"
TABLES = {
    "dead letter": (GUIDE, "| reason | meaning |", 0, 1),
    "refused log-in": (GUIDE, "| reason | refused because |", 0, 1),
    "refused request": (OPERATIONS, "| answer | `reason` | why | what to do |", 1, 2),
    "pipeline": (GUIDE, "| state | what |", 0, 1),
    "member": (CLUSTER, "| status | what it is |", 0, 1),
    "exit code": (GUIDE, "| exit code | what |", 0, 1),
    "error": (GUIDE, "| kind | what | class |", 0, 1),
}
"""By kind: the document, the head of its table, the columns with the word and with what it is."""


def text(name: str) -> str:
    return (SRC / name).read_text("utf-8")


def states() -> set[str]:
    """The states that a pipeline's row may have, out of the four modules that say them."""
    sources = "".join(map(text, ("worker/slot.py", "node/schedule.py", "node/pipeline_rows.py", "node/cluster/member.py")))
    return {*merge._WORST, *(word for each in STATE.findall(sources) for word in each)} - {""}


def printed(kind: str) -> set[str]:
    """The words of a kind as the code has them."""
    if kind == "dead letter":
        modules = (decode.UNDECODABLE, decode.WRONG_SHAPE, decode.NAN, decode.FUTURE, decode.OVERSIZED, decode.UNKNOWN_KEY)
        rest = (state.LATE, state.WINDOW_FULL, runner.POISON, runner.SCORE_NAN, pipeline_state.RECONFIGURED)
        return {*modules, *rest, "feature-error", "model-error"}
    if kind == "refused log-in":
        return {reason for name in SOURCES for reason in REASON.findall(text(name))}
    if kind == "refused request":
        return set(gate.REFUSED)
    if kind == "pipeline":
        return states()
    if kind == "member":
        return {status.lower() for status in NodeStatus}
    if kind == "exit code":
        return {str(code) for code in (0, entry.FAILED, entry.WRONG_USE, entry.UNREACHABLE, entry.INTERRUPTED)}
    return {each.name for each in _KINDS}


def told(kind: str) -> dict[str, str]:
    """Word → what it is, as the documents have it; links are their text."""
    document, head, word, what = TABLES[kind]
    table = (ROOT / "docs" / document).read_text("utf-8").partition(head + "\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[1:]]
    return {name.lower(): LINK.sub(r"\1", row[what]) for row in rows for name in re.findall(r"`([A-Za-z0-9-]+)`", row[word])}


def explained(kind: str) -> dict[str, str]:
    return {each.word: each.what for each in words() if each.kind == kind}


def test_there_are_no_other_kinds() -> None:
    assert {each.kind for each in words()} == set(TABLES)


@pytest.mark.parametrize("kind", TABLES)
def test_every_word_of_the_code_is_explained_and_no_other(kind: str) -> None:
    assert len(printed(kind)) > 4
    assert set(explained(kind)) == printed(kind)


@pytest.mark.parametrize("kind", TABLES)
def test_the_documents_say_the_same_as_the_command(kind: str) -> None:
    assert told(kind) == explained(kind)


def test_the_classes_of_errors_are_those_that_a_program_can_catch() -> None:
    classes = {each.also: each.word for each in words() if each.also}
    assert set(classes) <= set(errors.__all__)
    kinds = {each.error.__name__: each.name for each in _KINDS}
    assert {name: kinds[name] for name in classes} == classes
    assert set(errors.__all__) & set(kinds) == set(classes)
    document = (ROOT / "docs" / GUIDE).read_text("utf-8")
    for name, word in classes.items():
        assert re.search(rf"^\| `{word}` \|.*\| `{name}` \|$", document, re.MULTILINE), name


def by_word(word: Word) -> str:
    return f"{word.kind} {word.word}"


@pytest.mark.parametrize("word", words(), ids=by_word)
def test_what_a_mend_names_is_there(word: Word) -> None:
    for said in re.findall(r"`([^`]+)`", f"{word.why} {word.mend}"):
        parts = said.split()
        if parts[0] == "skerry" and "COMMAND" not in parts:
            assert complaint(parts[1:]) == "", said
        elif re.fullmatch(r"(source|window|broker|resources|api)\.[a-z_]+", said):
            assert f"`{said}`" in documents() or said.partition(".")[2] in documents(), said
    for each in (word.what, word.why, word.mend):
        assert each == each.strip()
        assert each
    assert word.why.endswith(".")
    assert word.mend.endswith(".")


def documents() -> str:
    return "".join(Path(ROOT / "docs" / name).read_text("utf-8") for name in (GUIDE, OPERATIONS))
