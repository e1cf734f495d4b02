"""The node as a process: its event loop and signals, and what the service manager hears of it."""

import asyncio
import signal
from collections.abc import Callable

from skerry.config import NodeConfig
from skerry.core import log
from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError
from skerry.core.service import cancel_and_wait
from skerry.core.units import parse_size
from skerry.node.life import Node
from skerry.node.watchdog import Watchdog
from skerry.runtime import Notifier, StackedExecutor, keep_trimmed, run_loop, settle
from skerry.worker import Report

_log = log.get("node")


def serve(config: NodeConfig, on_ready: Callable[[Node], None] | None = None) -> int:
    """Run a node until SIGTERM or SIGINT; the exit code."""
    return run_loop(_serve(config, on_ready))


class _Watched:
    """A node as the watchdog sees it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.ready = node.view.ready

    def reports(self) -> list[Report]:
        return [worker.report for worker in self._node.pool.workers]

    def log_end(self) -> int:
        return self._node.link.last_sequence


async def _serve(config: NodeConfig, on_ready: Callable[[Node], None] | None) -> int:
    notifier = Notifier()  # first: what is started must not inherit its variables
    node = Node(config)
    running = asyncio.create_task(node.run())
    watchdog = Watchdog(_Watched(node), notifier, SystemClock())
    beside = [asyncio.create_task(_settle(node, on_ready)), asyncio.create_task(watchdog.run())]

    def stop() -> None:
        notifier.stopping()
        running.cancel()

    loop, section = asyncio.get_running_loop(), config.runtime
    loop.set_default_executor(StackedExecutor(section.max_blocking_threads, parse_size(section.thread_stack_size)))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    reloading: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(node))
        reloading.add(task)
        task.add_done_callback(reloading.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await running
    except asyncio.CancelledError:
        _log.info("drained and stopped")
    finally:
        await cancel_and_wait(*beside, *reloading)
    return 0


async def _settle(node: Node, on_ready: Callable[[Node], None] | None) -> None:
    await node.ready.wait()
    if on_ready is not None:
        on_ready(node)
    settle()
    await keep_trimmed()


async def _reload(node: Node) -> None:
    try:
        answer = await node.view.reload()
        _log.info(f"configuration read again: {answer}")
    except SkerryError as error:
        _log.error(f"the configuration was not taken: {error}")
