"""A device gone wrong: `python -m tests.system.flood HOST PORT` publishes rubbish as fast as the broker acknowledges it.

A line on stdin starts it, the next one stops it, and so on; it answers each with how many messages are sent and acknowledged.
"""

import queue
import sys
import threading
import time
from typing import Any

from tests.system.fleet import connected

RUBBISH = (b"\x01\xff" * 40, b'{"ts": "when", "n": 1}', b'{"n": "many"}', b"[]", b'{"ts": 1, "n": 1e999}', b"{" * 200)
TOPIC = "devices/bad/numbers"
OPEN = 20


def main() -> None:
    client = connected("bad", (sys.argv[1], int(sys.argv[2])))
    going, sent, acknowledged = threading.Event(), 0, 0
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def on_publish(*_: Any) -> None:
        nonlocal acknowledged
        acknowledged += 1

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put("")

    client.on_publish = on_publish
    threading.Thread(target=listen, daemon=True).start()
    while True:
        if not lines.empty():
            if not lines.get():
                break
            if going.is_set():
                going.clear()
                give_up = time.monotonic() + 20
                while acknowledged < sent and time.monotonic() < give_up:
                    time.sleep(0.01)
            else:
                going.set()
            print(sent, acknowledged, flush=True)
        if not going.is_set() or sent - acknowledged >= OPEN:
            time.sleep(0.002)
            continue
        client.publish(TOPIC, RUBBISH[sent % len(RUBBISH)], qos=1)
        sent += 1
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
