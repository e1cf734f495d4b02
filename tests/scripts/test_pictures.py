"""The pictures of the concepts: as the script draws them, well-formed, with words for who cannot see them, and nothing fetched."""

import re
from xml.etree import ElementTree as ET

import pytest

from scripts.pictures import IMAGES, PICTURES, WIDTH

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_as_the_script_draws_it(name: str) -> None:
    assert (IMAGES / name).read_text("utf-8") == PICTURES[name](), "run scripts/pictures.py --write"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_can_be_read_by_everybody(name: str) -> None:
    text = PICTURES[name]()
    root = ET.fromstring(text)
    assert root.get("role") == "img"
    assert len(root.get("aria-label", "")) > 40
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"(?:href|url\()[^#]*//", text) == []


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_stands_outside_of_the_picture(name: str) -> None:
    root = ET.fromstring(PICTURES[name]())
    _, _, width, height = (float(each) for each in root.get("viewBox", "").split())
    assert width == WIDTH
    for box in root.iter(f"{SVG}rect"):
        x, y = float(box.get("x", 0)), float(box.get("y", 0))
        assert 0 <= x <= x + float(box.get("width", 0)) <= width
        assert 0 <= y <= y + float(box.get("height", 0)) <= height
    for words in root.iter(f"{SVG}text"):
        assert 0 < float(words.get("y", 0)) < height
        longest = (6.8 if words.get("class") == "soft" else 8.2) * len(words.text or "")  # what a letter is wide on average
        begin = float(words.get("x", 0)) - {"start": 0.0, "middle": longest / 2, "end": longest}[words.get("text-anchor", "start")]
        assert begin >= 0
        assert begin + longest <= width, words.text
