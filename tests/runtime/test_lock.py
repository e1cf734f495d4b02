"""One process a data directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.core.errors import UnavailableError
from skerry.runtime import DirectoryLock

HOLDER = """
import sys, time
from pathlib import Path
from skerry.runtime import DirectoryLock
DirectoryLock(Path(sys.argv[1])).take()
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_one_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    first.take()
    with pytest.raises(UnavailableError, match=f"{tmp_path}: is in use by another skerry .pid {os.getpid()}.; stop it"):
        second.take()
    first.release()
    second.take()
    second.release()
    second.release()


def test_it_goes_with_its_holder(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UnavailableError, match=f"pid {holder.pid}"):
            DirectoryLock(tmp_path).take()
        holder.kill()
    mine = DirectoryLock(tmp_path)
    mine.take()
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    mine.release()


def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    mine = DirectoryLock(tmp_path)
    mine.take()
    argv = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        mine.release()
        again = DirectoryLock(tmp_path)
        again.take()
        again.release()
        child.kill()
