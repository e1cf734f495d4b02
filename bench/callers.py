"""Callers of a model server: so many connections, each with one request under way, from bytes made beforehand.

A helper process: a line `CALLERS SECONDS` on stdin, a line of JSON on stdout; another line ends it before its time. The client
does as little as it can, since it runs on the cores that it measures: one epoll, no event loop, and of an answer only the status,
the length and the version are looked at.
"""

import json
import select
import socket
import sys
import time

import msgspec

RECEIVE = 262_144


class Called(msgspec.Struct):
    """What the callers saw.

    Attributes:
        answered: with 200. failed: with anything else, or cut off.
        seconds: from the first request to the last answer. latencies: in seconds, one for each answer.
        versions: the model versions that answered, with how often. cpu_s: of the callers' process.
        stopped: before its time.
    """

    answered: int
    failed: int
    seconds: float
    latencies: list[float]
    versions: dict[str, int]
    cpu_s: float
    stopped: bool = False

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    def and_of(self, later: "Called") -> "Called":
        """Both together."""
        versions = {name: self.versions.get(name, 0) + later.versions.get(name, 0) for name in {**self.versions, **later.versions}}
        return Called(
            self.answered + later.answered, self.failed + later.failed, self.seconds + later.seconds,
            self.latencies + later.latencies, versions, self.cpu_s + later.cpu_s,
        )  # fmt: skip

    def quantile(self, share: float) -> float:
        """Of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


def request_bytes(host: str, name: str, values: list[float], input_name: str = "features") -> bytes:
    """A whole JSON inference request of one row, as a client writes it."""
    tensor = {"name": input_name, "shape": [1, len(values)], "datatype": "FP32", "data": values}
    body = json.dumps({"inputs": [tensor]}).encode()
    lines = [
        f"POST /v2/models/{name}/infer HTTP/1.1", f"Host: {host}", "User-Agent: bench", "Accept: */*",
        "Content-Type: application/json", f"Content-Length: {len(body)}",
    ]  # fmt: skip
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Caller:
    """One connection."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.request = request
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.got = b""
        self.sent = 0.0

    def ask(self) -> None:
        self.sent = time.perf_counter()
        self.socket.send(self.request)

    def take(self) -> bytes | None:
        """An answer that is whole. Raises `ConnectionError` at the end of the connection."""
        data = self.socket.recv(RECEIVE)
        if not data:
            raise ConnectionError
        self.got = self.got + data if self.got else data
        end = self.got.find(b"\r\n\r\n")
        if end < 0:
            return None
        at = self.got.lower().rindex(b"content-length: ", 0, end) + 16
        stop = self.got.find(b"\r", at, end + 2)
        if len(self.got) < end + 4 + int(self.got[at:stop]):
            return None
        answer, self.got = self.got, b""
        return answer


def call(address: tuple[str, int], request: bytes, callers: int, seconds: float, stop: int | None = None) -> Called:
    """Keep `callers` requests under way for so long, or until there is something to read from the descriptor `stop`."""
    found = Called(0, 0, 0.0, [], {}, 0.0)
    cpu, started = time.process_time(), time.perf_counter()
    ends = started + seconds
    poll = select.epoll()
    asking = {caller.socket.fileno(): caller for caller in (Caller(address, request) for _ in range(callers))}
    idle: list[Caller] = []
    for descriptor, caller in asking.items():
        poll.register(descriptor, select.EPOLLIN)
        caller.ask()
    if stop is not None:
        poll.register(stop, select.EPOLLIN)
    while asking:
        events = poll.poll(10.0, callers + 1)
        if not events:
            found.failed += len(asking)
            break
        for descriptor, _ in events:
            if descriptor == stop:
                poll.unregister(stop)
                ends, found.stopped = 0.0, True
                continue
            caller = asking[descriptor]
            try:
                answer = caller.take()
            except OSError:
                answer = b""
            if answer is None:
                continue
            now = time.perf_counter()
            found.latencies.append(now - caller.sent)
            note(found, answer)
            if answer and now < ends:
                caller.ask()
            else:
                poll.unregister(descriptor)
                idle.append(asking.pop(descriptor))
    found.seconds = time.perf_counter() - started
    found.cpu_s = time.process_time() - cpu
    for caller in [*idle, *asking.values()]:
        caller.socket.close()
    poll.close()
    return found


def note(found: Called, answer: bytes) -> None:
    """Count an answer, and the version that it names."""
    if not answer.startswith(b"HTTP/1.1 200 "):
        found.failed += 1
        return
    found.answered += 1
    at = answer.find(b'"model_version":"')
    version = answer[at + 17 : answer.index(b'"', at + 17)].decode() if at >= 0 else ""
    found.versions[version] = found.versions.get(version, 0) + 1


def main() -> None:
    host, port, name, width = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    request = request_bytes(f"{host}:{port}", name, [round(0.1 * at - 1, 3) for at in range(width)])
    print("ready", flush=True)
    with open(0, "rb", buffering=0, closefd=False) as lines:  # unbuffered: what is not read can be polled for
        while line := lines.readline():
            callers, seconds = line.split()
            found = call((host, port), request, int(callers), float(seconds), lines.fileno())
            if found.stopped:
                lines.readline()
            print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    main()
