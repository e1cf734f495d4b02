"""Which join tokens there are, in the cluster's records: one that no member wrote down there is none, whoever signed it."""

from skerry.cluster.leases import Leases
from skerry.core.errors import FencedError, RejectedError

KEY = "token."
_MADE, _SPENT = b"made", b"spent"
_ANOTHER = "have a member make another token"


class JoinTokens:
    """Tokens by their id. What signs them every member knows, one that was taken out too: so each is written down when it is made.

    Both calls raise `UnavailableError` without a quorum."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    async def issue(self, token: str) -> None:
        """Write down that a member made it."""
        await self._leases.write(KEY + token, _MADE, 0)

    async def spend(self, token: str) -> None:
        """Use it, once in all the cluster. Raises `RejectedError` where no member made it, or where it was used before."""
        entry = (await self._leases.read(0)).get(KEY + token)
        if entry is None:
            raise RejectedError("no member of this cluster made the token", mend=_ANOTHER)
        try:
            if entry.value == _MADE:
                await self._leases.write(KEY + token, _SPENT, entry.revision)
                return
        except FencedError:
            pass
        raise RejectedError("the token was used before", mend=_ANOTHER)
