"""Backups: one file of a node, made while it runs or not, and brought back on this machine or another."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.backup.archive import Header, Manifest, Reader
    from skerry.backup.making import Running, create_backup
    from skerry.backup.restoring import restore_backup

__getattr__ = lazy(
    __name__,
    {
        "Header": "archive",
        "Manifest": "archive",
        "Reader": "archive",
        "Running": "making",
        "create_backup": "making",
        "restore_backup": "restoring",
    },
)

__all__ = ["Header", "Manifest", "Reader", "Running", "create_backup", "restore_backup"]
