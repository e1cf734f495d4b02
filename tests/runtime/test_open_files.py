"""The limit of open files: raised as far as the system lets it, in processes of their own since it cannot be undone for all."""

import subprocess
import sys

import pytest

PROGRAM = """\
import resource, sys
from skerry.runtime import allow_open_files
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(allow_open_files(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "holds"),
    [(256, 1024, 600, 600), (256, 1024, 5000, 1024), (900, 1024, 600, 900), (1024, 1024, 1024, 1024)],
    ids=["raised", "as far as it goes", "never lowered", "enough already"],
)
def test_the_limit(soft: int, hard: int, wanted: int, holds: int) -> None:
    argv = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(wanted)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert list(map(int, done.stdout.split())) == [holds, holds, hard]
