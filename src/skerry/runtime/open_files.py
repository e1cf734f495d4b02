"""How many files and connections this process may have open."""

import resource
import sys


def allow_open_files(count: int) -> int:
    """Raise the process's own limit to `count`, as far as the system lets it; the limit that holds then. It is never lowered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return count if soft == resource.RLIM_INFINITY else soft


def most_open_files() -> int:
    """How many a process can be allowed; a very large number where there is no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard
