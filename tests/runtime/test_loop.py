"""What is loaded when a process is ready is no business of the garbage collector any more."""

import asyncio
import json
import subprocess
import sys

import pytest
import uvloop

from skerry.runtime import run_loop
from skerry.runtime.loop import SWITCH_S

PROGRAM = """
import gc, weakref
import msgspec, json, decimal, email.message, http.client
from skerry.runtime import settle

class Node: pass
class Ring:
    def __init__(self): self.me = self

ring, kept = Ring(), [Node() for _ in range(1000)]
gone = weakref.ref(ring)
del ring
before = len(gc.get_objects())
settle()
frozen = gc.get_freeze_count()
after = len(gc.get_objects())
node = weakref.ref(kept[0])
kept.clear()
ring = Ring()
later = weakref.ref(ring)
del ring
gc.collect()
print(json.dumps({"gone": gone() is None, "before": before, "frozen": frozen, "after": after, "node": node() is None,
                  "later": later() is None, "enabled": gc.isenabled()}))
"""


def test_settling() -> None:
    """In a process of its own, since it is for good: garbage goes, the rest is frozen, what comes later is collected as ever."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    told = json.loads(done.stdout)
    assert told["gone"], "a ring that was garbage before is kept for ever"
    assert told["frozen"] > 5000
    assert told["after"] < told["before"] / 20
    assert told["node"], "what is frozen is freed when nobody holds it"
    assert told["later"], "a ring made later is collected"
    assert told["enabled"]


def test_the_loop_is_uvloop_and_threads_give_way_to_it() -> None:
    async def which() -> tuple[asyncio.AbstractEventLoop, float]:
        return asyncio.get_running_loop(), sys.getswitchinterval()

    before = sys.getswitchinterval()
    try:
        loop, interval = run_loop(which())
    finally:
        sys.setswitchinterval(before)
    assert isinstance(loop, uvloop.Loop)
    assert interval == pytest.approx(SWITCH_S)
