"""The log: one line a fact, to stderr and to a rotated file; JSON in the file, readable on a terminal."""

import contextlib
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, cast

from skerry.core.ports import Log

MAX_FILE_BYTES = 4 * 1024 * 1024
KEPT_FILES = 3


def configure(level: str = "info", file: Path | None = None, *, quiet: bool = False) -> None:
    """Send the log to stderr (unless quiet) and to `file` (0600, rotated at 4 MiB, 3 kept)."""
    with _without_rich():
        import structlog  # late: most commands log nothing

    handlers: list[logging.Handler] = []
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not quiet:
        stream = logging.StreamHandler(sys.stderr)
        stream.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    _harmless,
                    structlog.dev.ConsoleRenderer(
                        colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
                    ),
                ],
                foreign_pre_chain=shared,
            )
        )
        handlers.append(stream)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        rotated = logging.handlers.RotatingFileHandler(file, maxBytes=MAX_FILE_BYTES, backupCount=KEPT_FILES)
        rotated.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[
                    _with_part,
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.JSONRenderer(),
                ],
                foreign_pre_chain=shared,
            )
        )
        handlers.append(rotated)
    logging.basicConfig(handlers=handlers or [logging.NullHandler()], level=level.upper(), force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _as_a_library() -> None:
    """In a program that set nothing up: plain lines to `logging`, which shows warnings on stderr. Its stdout is its own."""
    import structlog  # late: most commands log nothing

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


@contextlib.contextmanager
def _without_rich() -> Iterator[None]:
    """structlog takes rich where it finds it, for tracebacks that are not drawn here: 6 MB of memory in every process of a node."""
    if "rich" in sys.modules or "structlog" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # so `import rich` fails, as where it is not installed
    try:
        yield
    finally:
        del sys.modules["rich"]


def _with_part(_: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Which part of the node says it: the room, or a library's logger."""
    entry.setdefault("part", entry["_record"].name.removeprefix("skerry."))
    return entry


def _harmless(_: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Text from outside, such as a user name, must not drive the terminal: what is not printable is written as an escape."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in entry.items()}


def _escaped(text: str) -> str:
    return "".join(each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text)


class _Logger:
    """A room's log; structlog is loaded with the first line."""

    def __init__(self, room: str) -> None:
        self._name = f"skerry.{room}"
        self._log: Log | None = None

    def _get(self) -> Log:
        if self._log is None:
            import structlog  # late: most commands log nothing

            if not structlog.is_configured():
                _as_a_library()
            self._log = cast(Log, structlog.stdlib.get_logger(self._name))
        return self._log

    def debug(self, event: str, **fields: object) -> None:
        self._get().debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        self._get().info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        self._get().warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        self._get().error(event, **fields)


def get(room: str) -> Log:
    """The log of one room."""
    return _Logger(room)
