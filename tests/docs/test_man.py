"""The man page is what the command line says."""

import re
import shutil
import subprocess

import pytest

from scripts import man
from tests.docs.test_docs import complaint


def test_the_man_page_is_written_anew_with_each_change_of_a_command() -> None:
    assert man.FILE.read_text("utf-8") == man.page(), ".venv/bin/python scripts/man.py --write"


def test_every_command_it_names_exists() -> None:
    headings = re.findall(r'^\.SS "(skerry [^"]+)"$', man.page(), re.MULTILINE)
    assert len(headings) > 50
    for heading in headings:
        words = heading.replace("\\-", "-").split()[1:]
        plain = [word for word in words if word.islower() and word[0].isalpha()]
        assert "No such command" not in complaint(plain), heading


def test_text_that_roff_would_take_for_its_own_is_escaped() -> None:
    assert man.escaped(".toml -x a\\b") == "\\&.toml \\-x a\\eb"
    assert man.escaped("2 °C") == "2 \\[u00B0]C"
    assert man.quoted('a "b"') == '"a ""b"""'


def test_groff_has_no_complaint() -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip(reason="optional: groff is not installed")
    command = [groff, "-man", "-Tutf8", "-ww", "-z", str(man.FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
