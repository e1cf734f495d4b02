"""The processes of a node: what each uses, how often it was started again, and how the one before it ended."""

import os
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.core.clock import to_rfc3339
from skerry.runtime import Exit, figures_of

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]


class Process(msgspec.Struct, frozen=True):
    """One that runs, or that is to: `pid` None while it does not.

    Attributes:
        words: why the last one ended, in one sentence. last: how.
    """

    name: str
    pid: int | None
    restarts: int = 0
    quarantined: bool = False
    words: str = ""
    last: Exit | None = None


def processes_of(node: "Node") -> list[Process]:
    """The agent and its children, those that are started when asked for only while they run or when one has ended."""
    found = [Process("agent", os.getpid()), Process("nats-server", node.server.pid, node.server.restarts, last=node.server.last)]
    for worker in node.pool.workers:
        lives = worker.restarts
        found.append(Process(f"worker-{worker.index}", worker.pid, lives.total, lives.quarantined, worker.last_words, lives.last))
    serving = node.serving
    if serving.pid is not None or serving.restarts.total:
        lives = serving.restarts
        found.append(Process("serving", serving.pid, lives.total, lives.quarantined, serving.last_words, lives.last))
    if node.models.host.pid is not None:
        found.append(Process("trials", node.models.host.pid))
    for name, part in (("historian", node.history), ("uplink", node.uplink), ("connectors", node.connectors)):
        if part.assignment is not None or part.restarts.total:
            lives = part.restarts
            found.append(Process(name, part.pid, lives.total, lives.quarantined, part.last_words, lives.last))
    dashboard = node.dashboard
    if dashboard.on:
        lives = dashboard.restarts
        found.append(Process("dashboard", dashboard.pid, lives.total, lives.quarantined, dashboard.last_words, lives.last))
    return found


def rows(processes: list[Process]) -> list[Row]:
    """What `status` says of them, with what they use at this moment."""
    found = []
    for each in processes:
        figures = figures_of(each.pid) if each.pid else None
        found.append(
            {
                "name": each.name,
                "pid": each.pid,
                "memory": figures.memory if figures else 0,
                "peak": figures.peak if figures else 0,
                "cpu_s": round(figures.cpu_s, 2) if figures else 0.0,
                "started": to_rfc3339(figures.started) if figures and figures.started else None,
                "restarts": each.restarts,
                "quarantined": each.quarantined,
                "last": _last(each),
            }
        )
    return found


def _last(process: Process) -> Row | None:
    """The last words of the one before; None where there was none."""
    exit_ = process.last
    if exit_ is None:
        return {"words": process.words} if process.words else None
    return {
        "words": process.words or exit_.sentence,
        "exit_code": exit_.code if exit_.code >= 0 else None,
        "signal": exit_.signal or None,
        "peak": exit_.peak,
        "stderr": exit_.tail.splitlines(),
    }
