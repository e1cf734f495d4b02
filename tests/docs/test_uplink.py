"""What the page about the uplink's data shows is what comes out, and it names every key."""

import contextlib
import io

import msgspec
import pytest

from skerry.pipeline.forward import Around, ForwardSpec
from skerry.uplink.config import RedactRule
from tests.docs.blocks import ROOT, blocks

PAGE = ROOT / "docs" / "uplink-data.md"


def test_the_centre_s_ten_lines_print_what_they_say() -> None:
    (code,) = [block for block in blocks("python", [PAGE]) if "decode(" in block.text]
    (shown,) = [block for block in blocks("text", [PAGE]) if block.text.startswith("plant ")]
    assert len(code.text.splitlines()) - code.text.count('    "') <= 10
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.text, code.place, "exec"), {})
    assert printed.getvalue() == shown.text


@pytest.mark.parametrize("kind", [ForwardSpec, Around, RedactRule])
def test_every_key_is_told(kind: type[msgspec.Struct]) -> None:
    text = PAGE.read_text("utf-8")
    for field in msgspec.structs.fields(kind):
        assert f"`{field.encode_name}`" in text or f"{field.encode_name} = " in text, field.encode_name
