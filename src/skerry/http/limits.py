"""What one server may hold."""

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What one server may hold.

    Attributes:
        body: bytes of a request's body, where its route says nothing else; more is answered 413.
        bodies: bytes of all bodies that are held at one time; a request that needs more is answered 503.
        connections: over TCP and the Unix socket together; a few more are kept free for the Unix socket.
        each: connections of one address over TCP, where any route is direct.
        body_time: seconds that a request's body may take.
        write_time: seconds that a peer may take to accept one chunk of a stream before it is cut off.
        idle_time: seconds that a connection may be open without a request.
        stop_time: seconds that requests in work are given when the server stops.
    """

    body: int = 1024 * 1024
    bodies: int = 128 * 1024 * 1024
    connections: int = 256
    each: int = 192
    body_time: float = 10.0
    write_time: float = 20.0
    idle_time: float = 75.0
    stop_time: float = 1.5
