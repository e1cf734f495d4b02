"""Lines of keys in TOML files, as people and as machines write them."""

import pytest

from skerry.core.toml_lines import line_of

TEXT = """\
title = "[not] = a header"
[node]
name = "a"  # [nor] = this
about = '''
[nowhere]
name = "b"
'''
[[pipelines]]
name = "p"
source.topic = "a/b"
[[pipelines]]
values = [
    { name = "x" },
]
window = { kind = "tumbling", size = "1s" }
[pipelines.rule]
above = 1
[[pipelines]]
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("title", 1),
        ("node", 2),
        ("node.name", 3),
        ("node.nothing", 2),
        ("nowhere", 0),
        ("pipelines", 8),
        ("pipelines[0]", 8),
        ("pipelines[0].name", 9),
        ("pipelines[0].source.topic", 10),
        ("pipelines[1].name", 11),
        ("pipelines[1].values[0].name", 12),
        ("pipelines[1].window.size", 15),
        ("pipelines[1].rule.above", 17),
        ("pipelines[2].rule.above", 18),
        ("pipelines[3]", 0),
    ],
)
def test_a_key_or_what_it_stands_in(key: str, line: int) -> None:
    assert line_of(TEXT, key) == line
