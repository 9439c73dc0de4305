"""Which file systems others may write to without this kernel noticing: it gives no notices of that."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

REMOTE = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs", "gpfs", "beegfs")
)
TABLE = Path("/proc/self/mountinfo")


def remote(folders: Iterable[str]) -> dict[str, str]:
    """Those of the folders that lie on such a file system, and its type. What cannot be told counts as local."""
    try:
        types = _types(TABLE.read_text("utf-8", "replace"))
    except OSError:
        return {}
    found = {}
    for folder in folders:
        try:
            device = os.stat(folder).st_dev
        except OSError:
            continue
        kind = types.get((os.major(device), os.minor(device)), "")
        if kind in REMOTE or kind.startswith("fuse."):
            found[folder] = kind
    return found


def _types(table: str) -> dict[tuple[int, int], str]:
    """Device -> type of file system, from lines such as ``36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw``."""
    found = {}
    for line in table.splitlines():
        place, _, rest = line.partition(" - ")
        words = place.split(" ")
        major, _, minor = words[2].partition(":") if len(words) > 2 else ("", "", "")
        if major.isdecimal() and minor.isdecimal() and rest:
            found[int(major), int(minor)] = rest.split(" ")[0]
    return found
