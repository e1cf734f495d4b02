"""What the service manager is told (sd_notify): ready, stopping, that the node lives, and how it is in one sentence."""

import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """Datagrams to `$NOTIFY_SOCKET`, as sd_notify(3) has them; nothing happens where there is no such socket.

    The variables are taken out of the environment: what this process starts does not speak in its name.

    Attributes:
        watchdog_s: seconds within which `watchdog` has to be called, 0 where nobody watches.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        interval, whose = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        mine = not whose or whose == str(os.getpid())
        self.watchdog_s = int(interval) / 1e6 if self._address and mine and interval.isdecimal() else 0.0
        self._said = ""

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def ready(self) -> bool:
        """The start is done."""
        return self._send("READY=1")

    def stopping(self) -> bool:
        """The end has begun."""
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        """It lives and works."""
        return self._send("WATCHDOG=1")

    def status(self, sentence: str) -> bool:
        """How it is, for people; sent when it has changed."""
        line = " ".join(sentence.split())
        if line == self._said:
            return True
        self._said = line
        return self._send(f"STATUS={line}")

    def _send(self, text: str) -> bool:
        """Answers whether it was taken: who does not listen any more keeps no node from its work."""
        if not self._address:
            return False
        # a leading @ stands for the null byte of Linux's abstract names
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.setblocking(False)
                return sending.sendto(text.encode(), address) > 0
        except OSError:
            return False
