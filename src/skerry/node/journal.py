"""The node's log and its audit log, read for the API: from their ends, in a thread, one question at a time."""

import asyncio
from pathlib import Path
from typing import Any

from skerry.core.errors import UnavailableError
from skerry.core.journal import MOST_READ, Page, Sieve, read_back
from skerry.device import audit_files

Row = dict[str, Any]
PATIENCE_S = 10.0
PARTS = 9  # of a rotated file; more than are kept


class Journal:
    """What the node wrote down of itself. A question that a slow disk does not answer within 10 s is `UnavailableError`."""

    def __init__(self, data_dir: Path) -> None:
        self._log = data_dir / "logs" / "skerry.log"
        self._audit = data_dir / "logs" / "audit.log"
        self._one = asyncio.Lock()

    async def log(self, sieve: Sieve, last: int) -> Row:
        """`{entries, whole}` of the log, oldest first."""
        return _shown(await self._read(_parts_of(self._log), sieve, last))

    async def audit(self, sieve: Sieve, last: int) -> Row:
        """`{entries, whole}` of both files of the audit log, oldest first."""
        pages = [await self._read(_parts_of(file), sieve, last) for file in audit_files(self._audit)]
        entries = sorted((entry for page in pages for entry in page.entries), key=lambda entry: str(entry.get("timestamp", "")))
        return _shown(Page(entries[-last:], all(page.whole for page in pages)))

    async def _read(self, files: list[Path], sieve: Sieve, last: int) -> Page:
        try:
            async with asyncio.timeout(PATIENCE_S), self._one:
                return await asyncio.to_thread(read_back, files, sieve, last, MOST_READ)
        except TimeoutError as error:
            raise UnavailableError("the disk does not answer", where=str(files[0]), mend="try again") from error
        except OSError as error:
            raise UnavailableError(f"cannot be read: {error.strerror}", where=str(files[0]), mend="see `skerry doctor`") from error


def _parts_of(file: Path) -> list[Path]:
    """The file and its rotated parts, the newest first."""
    return [file, *[file.with_name(f"{file.name}.{number}") for number in range(1, PARTS + 1)]]


def _shown(page: Page) -> Row:
    return {"entries": page.entries, "whole": page.whole}
