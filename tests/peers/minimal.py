"""An MQTT client as small devices have it: one blocking socket, QoS 0 and 1, nothing kept. Arguments as of client.mjs.

python minimal.py PORT CLIENT_ID CLEAN WILL publish TOPIC PAYLOAD QOS RETAIN | subscribe TOPIC QOS | stay
"""

import socket
import struct
import sys


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("!H", len(raw)) + raw


def packet(kind: int, body: bytes = b"") -> bytes:
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


class Client:
    def __init__(self, port: int, client_id: str, clean: bool, will: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        flags = clean << 1 | (0x0C if will else 0)
        last = text(will) + text("gone") if will else b""
        self.socket.sendall(packet(0x10, text("MQTT") + bytes([4, flags]) + struct.pack("!H", 60) + text(client_id) + last))
        assert self.read()[1][1] == 0, "refused"
        self.early: list[tuple[int, bytes]] = []

    def exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self.socket.recv(count - len(found))
            if not part:
                raise ConnectionError("the broker closed the connection")
            found += part
        return found

    def read(self) -> tuple[int, bytes]:
        kind, length = self.exactly(2)
        return kind, self.exactly(length)

    def answer(self, wanted: int) -> bytes:
        """The answer of this kind; a session's messages may come before it."""
        while True:
            kind, body = self.read()
            if kind == wanted:
                return body
            self.early.append((kind, body))

    def publish(self, topic: str, payload: str, qos: int, retain: bool) -> None:
        number = b"\0\7" if qos else b""
        self.socket.sendall(packet(0x30 | qos << 1 | retain, text(topic) + number + payload.encode()))
        if qos:
            assert self.answer(0x40) == number
        self.socket.sendall(packet(0xE0))
        self.socket.shutdown(socket.SHUT_WR)

    def subscribe(self, topic: str, qos: int) -> None:
        self.socket.sendall(packet(0x82, b"\0\1" + text(topic) + bytes([qos])))
        say("refused" if self.answer(0x90)[2] == 128 else "subscribed")
        while True:
            kind, body = self.early.pop(0) if self.early else self.read()
            length, of_message = struct.unpack("!H", body[:2])[0], kind >> 1 & 3
            name, rest = body[2 : 2 + length].decode(), body[2 + length :]
            if of_message:
                self.socket.sendall(packet(0x40, rest[:2]))
                rest = rest[2:]
            say(f"{name} {rest.decode()} {of_message} {'true' if kind & 1 else 'false'}")


def say(line: str) -> None:
    print(line, flush=True)


port, client_id, clean, will, action, *rest = sys.argv[1:]
client = Client(int(port), client_id, clean == "true", will)
if action == "publish":
    client.publish(rest[0], rest[1], int(rest[2]), rest[3] == "true")
elif action == "subscribe":
    client.socket.settimeout(None)
    client.subscribe(rest[0], int(rest[1]))
else:
    say("connected")
    sys.stdin.read()
