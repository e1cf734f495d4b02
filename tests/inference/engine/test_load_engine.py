"""The engine comes into a process before the first model, so that what a model takes can be measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.models import adding

PROGRAM = """
import json, sys
from pathlib import Path
from skerry.inference import load_engine, load_model
from skerry.runtime import resident

told = [resident()]
if sys.argv[2] == "first":
    load_engine()
    told.append(resident())
    load_engine()
    told.append(resident())
load_model(Path(sys.argv[1]), "m")
print(json.dumps({"memory": [*told, resident()], "onnx": "onnx" in sys.modules}))
"""
MIB = 1 << 20


@pytest.mark.parametrize("how", ["first", "not"])
def test_what_the_first_model_takes_is_its_own_once_the_engine_is_there(tmp_path: Path, how: str) -> None:
    """In processes of their own: in this one the engine is there already."""
    file = adding(tmp_path / "small.onnx", 1)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(file), how], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    *before, last, after = told["memory"]
    if how == "first":
        assert last == before[-1], "it is loaded once"
        assert last - before[0] > 10 * MIB
        assert after - last < 3 * MIB
        assert not told["onnx"], "what looks into files comes where it is asked for"
    else:
        assert after - last > 10 * MIB
