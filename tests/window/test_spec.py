"""The window table: what is refused, with the key and what is allowed, and what it comes to in microseconds."""

from typing import Any

import pytest

from skerry.core.errors import ConfigError
from skerry.core.settings import build
from skerry.window.spec import WindowSpec


@pytest.mark.parametrize(
    ("table", "where", "text"),
    [
        ({"kind": "tumbling"}, "size", "needs a size"),
        ({"kind": "tumbling", "size": 5}, "size", "is not a duration"),
        ({"kind": "tumbling", "size": "0s"}, "size", "more than 0"),
        ({"kind": "tumbling", "size": "1 fortnight"}, "size", "is not a duration"),
        ({"kind": "sliding", "size": "5s"}, "every", "needs every"),
        ({"kind": "sliding", "size": "5s", "every": "6s"}, "every", "at most size"),
        ({"kind": "sliding", "size": "5s", "every": "0s"}, "every", "more than 0"),
        ({"kind": "session"}, "gap", "needs a gap"),
        ({"kind": "session", "gap": "0s"}, "gap", "more than 0"),
        ({"kind": "count"}, "size", "number of samples"),
        ({"kind": "count", "size": "5s"}, "size", "number of samples"),
        ({"kind": "count", "size": 0}, "size", "number of samples"),
        ({"kind": "count", "size": 4, "every": 5}, "every", "more than size"),
        ({"kind": "count", "size": 4, "every": "1s"}, "every", "number of samples"),
        ({"kind": "none", "lateness": "soon"}, "lateness", "is not a duration"),
        ({"kind": "none", "idle": ""}, "idle", "is not a duration"),
        ({"kind": "none", "max_samples": 0}, "max_samples", "1 or more"),
        ({"kind": "hopping", "size": "1s"}, "kind", "hopping"),
        ({"kind": "none", "by": "site"}, "by", "site"),
        ({"kind": "none", "sise": "1s"}, "", "did you mean 'size'"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(table: dict[str, Any], where: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(WindowSpec, table, "pipelines[0].window")
    assert caught.value.where == ".".join(filter(None, ("pipelines[0].window", where)))
    assert text in str(caught.value)


def test_durations_are_microseconds() -> None:
    spec = WindowSpec(kind="sliding", size="2s", every="500ms", lateness="1m", idle="100ms")
    assert (spec.size_us, spec.every_us, spec.lateness_us, spec.idle_us) == (2_000_000, 500_000, 60_000_000, 100_000)


@pytest.mark.parametrize(("size", "every", "pane"), [("10s", "5s", 5_000_000), ("10s", "3s", 1_000_000), ("7ms", "4ms", 1000)])
def test_panes_divide_size_and_every(size: str, every: str, pane: int) -> None:
    assert WindowSpec(kind="sliding", size=size, every=every).pane_us == pane


def test_a_tumbling_window_is_one_pane_and_a_count_steps_by_its_size() -> None:
    spec = WindowSpec(kind="tumbling", size="3s")
    assert spec.every_us == spec.pane_us == 3_000_000
    assert WindowSpec(kind="count", size=8).step == 8
    assert WindowSpec(kind="count", size=8, every=2).step == 2
