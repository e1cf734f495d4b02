"""Errors say what, where and how to mend it."""

import pytest

from skerry.core.errors import ConfigError, RejectedError, SkerryError, suggestion


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SkerryError("broken"), "broken"),
        (RejectedError("broken", where="model"), "model: broken"),
        (SkerryError("broken", where="a.toml", mend="mend it"), "a.toml: broken; mend it"),
        (ConfigError("no size", where="size", allowed="1s, 2s"), "size: no size; allowed: 1s, 2s"),
        (ConfigError("no size", mend="leave it out", allowed="1s"), "no size; leave it out"),
    ],
)
def test_the_text_of_an_error(error: SkerryError, text: str) -> None:
    assert str(error) == text


def test_a_place_is_put_in_front_of_a_place() -> None:
    inner = ConfigError("no size", where="size", allowed="1s")
    outer = inner.at("window").at("pipelines[0]")
    assert outer.where == "pipelines[0].window.size"
    assert (outer.message, outer.allowed) == ("no size", "1s")
    assert str(outer).count("allowed") == 1
    assert ConfigError("x").at("a").where == "a"
    assert ConfigError("x", where="b").at("").where == "b"


def test_a_suggestion_is_the_nearest_or_nothing() -> None:
    assert suggestion("tumblin", ["sliding", "tumbling"]) == ", did you mean 'tumbling'?"
    assert suggestion("zzz", ["sliding"]) == suggestion("x", []) == ""
