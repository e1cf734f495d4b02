"""`skerry explain`: words and what they mean, in any spelling, and what is near where there is none."""

import json

import pytest

from skerry.cli.explain import meanings, words
from skerry.core.errors import RejectedError
from tests.cli.conftest import Call


def test_what_why_and_what_to_do(call: Call) -> None:
    answer = call("explain", "late")
    assert (answer.code, answer.err) == (0, "")
    what, why, mend = answer.out.splitlines()
    assert what == "dead letter late: all its windows are closed"
    assert why.startswith("  why:  ")
    assert mend.startswith("  mend: Raise `window.lateness`")


def test_a_word_with_two_meanings_has_both(call: Call) -> None:
    out = call("explain", "unavailable").out
    assert "refused log-in unavailable: " in out
    assert "\n\nerror unavailable: " in out


@pytest.mark.parametrize("spelling", ["rejected", "Rejected", "urn:skerry:rejected", "RejectedError", " rejectederror "])
def test_an_error_by_any_of_its_names(spelling: str) -> None:
    assert [(each.kind, each.word) for each in meanings(spelling)] == [("error", "rejected")]


def test_an_exit_code_is_a_word_too(call: Call) -> None:
    assert call("explain", "3").out.startswith("exit code 3: the node is not reachable\n")


def test_without_a_word_all_are_listed(call: Call) -> None:
    lines = call("explain").out.splitlines()
    assert len(lines) == len(words()) + 1
    assert any(line.startswith("bad-password ") and "refused log-in" in line for line in lines)


def test_one_object_for_scripts(call: Call) -> None:
    assert json.loads(call("--json", "explain", "poison").out)["words"][0]["kind"] == "dead letter"
    answer = json.loads(call("--json", "explain").out)["words"]
    assert [(each["word"], each["kind"]) for each in answer] == [(each.word, each.kind) for each in words()]
    assert all(set(each) - {"also"} == {"word", "kind", "what", "why", "mend"} for each in answer)


@pytest.mark.parametrize(("wrong", "near"), [("latte", "'late'"), ("bad-passwort", "'bad-password'"), ("corupt", "'corrupt'")])
def test_did_you_mean(call: Call, wrong: str, near: str) -> None:
    answer = call("explain", wrong)
    assert (answer.code, answer.out) == (1, "")
    assert f"did you mean {near}?" in answer.err
    assert "`skerry explain` lists them" in answer.err


def test_a_word_that_is_like_none() -> None:
    with pytest.raises(RejectedError, match="is no word") as error:
        meanings("zzzzzz")
    assert "did you mean" not in str(error.value)


def test_no_word_is_said_twice_within_a_kind_and_none_is_empty() -> None:
    known = [(each.kind, each.word) for each in words()]
    assert len(set(known)) == len(known)
    assert all(each.what and each.why and each.mend for each in words())
