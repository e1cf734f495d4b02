"""Who logs in over TLS: what the call-out is told in the place of what nats-server saw."""

import secrets

import msgspec

from skerry.broker.claims import ConnectRequest

_WORD = "$tls:"


class Caller(msgspec.Struct, frozen=True):
    """Who wants in. `certificates`: PEM, the client's own, verified. `repr` leaves the password out."""

    address: str
    username: str
    password: str
    certificates: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Caller({self.username!r} from {self.address})"


class Callers:
    """Those whose log-in is under way, by the word that stands for their password: each word is good once."""

    def __init__(self) -> None:
        self._waiting: dict[str, Caller] = {}

    def announce(self, caller: Caller) -> str:
        """The word for a caller."""
        word = _WORD + secrets.token_hex(24)
        self._waiting[word] = caller
        return word

    def forget(self, word: str) -> None:
        self._waiting.pop(word, None)

    def resolve(self, request: ConnectRequest) -> ConnectRequest | None:
        """The request as the client made it, where it came through a TLS port; else as it is. None: its client has gone."""
        caller = self._waiting.pop(request.password, None)
        if caller is None:
            return None if request.password.startswith(_WORD) else request
        return msgspec.structs.replace(
            request,
            address=caller.address,
            username=caller.username,
            password=caller.password,
            certificates=caller.certificates,
            verified=bool(caller.certificates),
        )

    def __len__(self) -> int:
        return len(self._waiting)
