"""`python -m skerry.dashboard`: reads where the API is from stdin, serves the page, ends when stdin does."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator

import msgspec

from skerry.core import log
from skerry.core.clock import SystemClock
from skerry.core.service import Backoff, until_one_ends
from skerry.dashboard.door import Policy
from skerry.dashboard.protocol import Assignment, Report
from skerry.dashboard.sessions import Sessions
from skerry.dashboard.watch import Watches
from skerry.runtime import is_loopback, lines_of_agent, run_loop, settle, tell_agent

REPORT_S = 1.0


async def _bound(given: Assignment) -> socket.socket:
    """A socket that listens; a port that is taken is tried again, and the reports say so."""
    backoff = Backoff(1.0, 10.0)
    while True:
        found = socket.socket(socket.AF_INET6 if ":" in given.host else socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((given.host, given.port))
        except OSError as error:
            found.close()
            why = os.strerror(error.errno).lower() if error.errno else str(error)
            tell_agent(Report("", f"cannot listen on {given.host}:{given.port}: {why}; set dashboard.listen to another port"))
            await asyncio.sleep(backoff.next())
        else:
            found.listen(128)
            return found


async def _serve(given: Assignment) -> None:
    bound = await _bound(given)
    import uvicorn  # late, with the page itself: a port that is taken is told before half a second of loading

    from skerry.dashboard.app import make_app

    class Server(uvicorn.Server):
        """Without signal handlers: the agent ends it by its stdin."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    sessions = Sessions(SystemClock())
    watches = Watches(given.api, given.ca, SystemClock())
    policy = Policy(frozenset(given.names), not is_loopback(given.host), bool(given.cert))
    config = uvicorn.Config(
        make_app(policy, sessions, watches), lifespan="on", log_config=None, log_level="warning", access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=256, timeout_graceful_shutdown=1, ws_max_size=4 * 1024 * 1024,
        ssl_certfile=given.cert or None, ssl_keyfile=given.key or None,
    )  # fmt: skip
    server = Server(config)
    port = bound.getsockname()[1]
    host = f"[{given.host}]" if ":" in given.host else given.host
    url = f"{'https' if given.cert else 'http'}://{host}:{port}"
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - the server says it in an attribute alone
            await asyncio.sleep(0.02)
        settle()
        while not serving.done():
            tell_agent(Report(url, f"the dashboard is on {url}", len(sessions), sessions.refused))
            await asyncio.wait((serving,), timeout=REPORT_S)
        serving.result()
    finally:
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                await serving
        await watches.close()


async def main() -> int:
    """Serve until stdin ends, or SIGTERM; the exit code."""
    lines = await lines_of_agent()
    line = await lines.readline()
    if not line:
        return 0
    await until_one_ends(_serve(msgspec.json.decode(line, type=Assignment)), _end_of(lines))
    return 0


async def _end_of(lines: asyncio.StreamReader) -> None:
    await lines.readline()


if __name__ == "__main__":
    log.configure(os.environ.get("SKERRY_LOG", "info"))
    sys.exit(run_loop(main()))
