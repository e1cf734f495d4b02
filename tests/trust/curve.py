"""Edwards25519 after RFC 8032, 5.1 and 6: slow and plain, to make what an honest library does not."""

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    both = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + both, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - both, -1, P) % P


def times(scalar: int, point: Point) -> Point:
    found = IDENTITY
    while scalar:
        if scalar & 1:
            found = add(found, point)
        point = add(point, point)
        scalar >>= 1
    return found


def root(y: int, sign: int) -> int | None:
    """The x of a point, or None where there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return P - x if x % 2 != sign and x else x


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    x = root(y % P, sign)
    assert x is not None
    return x, y % P


BASE_Y = 4 * pow(5, -1, P) % P
BASE: Point = (root(BASE_Y, 0) or 0, BASE_Y)


def small_order() -> list[Point]:
    """The eight points that eight times themselves are the identity: multiples of one whose order is 8."""
    y = 2
    while True:
        x = root(y, 0)
        candidate = times(L, (x, y)) if x is not None else IDENTITY
        if times(4, candidate) != IDENTITY:
            return [times(number, candidate) for number in range(8)]
        y += 1


def challenge_scalar(r: bytes, a: bytes, message: bytes) -> int:
    """SHA-512(R ‖ A ‖ M) of a signature."""
    return int.from_bytes(hashlib.sha512(r + a + message).digest(), "little")


def secret_scalar(seed: bytes) -> int:
    clamped = bytearray(hashlib.sha512(seed).digest()[:32])
    clamped[0] &= 248
    clamped[31] = clamped[31] & 127 | 64
    return int.from_bytes(clamped, "little")


def not_canonical(point: Point) -> list[bytes]:
    """Encodings of a point that are not its own: y + p where that has room, and a sign where x is 0."""
    found = []
    x, y = point
    if y + P < 1 << 255:
        found.append((y + P | (x & 1) << 255).to_bytes(32, "little"))
    if x == 0:
        found.append((y | 1 << 255).to_bytes(32, "little"))
    return found
