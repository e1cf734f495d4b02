"""From `argv` to an exit code: 0 done, 1 failed, 2 usage or configuration, 3 the node is not reachable, 130 interrupted."""

import sys
from collections.abc import Sequence

from skerry.core.errors import ConfigError, SkerryError

FAILED, WRONG_USE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
_SWITCHES = frozenset({"--json", "-q", "--quiet", "-v", "--verbose"})
_VALUED = ("--config", "--url", "--token-file", "--ca")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what goes wrong is one sentence on stderr. Returns the exit code."""
    arguments = hoist(sys.argv[1:] if argv is None else argv)
    try:
        from skerry.cli.app import app  # late: a broken installation should be told in one sentence too

        app(args=arguments, prog_name="skerry")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED * bool(end.code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SkerryError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    except Exception as error:
        if {"-v", "--verbose"} & set(arguments):
            raise
        print(f"error: {type(error).__name__}: {error}; this is a fault of skerry, -v shows where", file=sys.stderr)
        return FAILED
    return 0


def exit_code(error: SkerryError) -> int:
    """The exit code that an error means."""
    from skerry.http import UnreachableError  # late: most commands end without

    if isinstance(error, UnreachableError):
        return UNREACHABLE
    return WRONG_USE if isinstance(error, ConfigError) else FAILED


def hoist(arguments: Sequence[str]) -> list[str]:
    """The arguments with the global options in front, so that they may be written after the command too."""
    front: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--":
            rest += [argument, *left]
            break
        if argument in _SWITCHES or argument.startswith(tuple(f"{name}=" for name in _VALUED)):
            front.append(argument)
        elif argument in _VALUED and left:
            front += [argument, left.pop(0)]
        else:
            rest.append(argument)
    return front + rest
