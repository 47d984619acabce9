"""Where a process and all that it started listen, read from /proc."""

from __future__ import annotations

import contextlib
import os
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

LISTEN = "0A"
"""state of a listening socket in /proc/net/tcp"""


def listening(root: int) -> list[str]:
    """List the address of each listening TCP socket of a process and its descendants; IPv4 where it is mapped."""
    addresses = _addresses()
    found = []
    for pid in _descendants(root):
        with contextlib.suppress(OSError):  # it has ended, or closes a file
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found.append(os.readlink(descriptor))
    sockets = {name.removeprefix("socket:[").removesuffix("]") for name in found if name.startswith("socket:[")}
    return [addresses[inode] for inode in sockets if inode in addresses]


def _descendants(root: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _addresses() -> dict[str, str]:
    """Map the inode of each listening socket to its address."""
    addresses = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                # Each group of four bytes is in the order of the machine, which is little-endian here.
                packed = bytes.fromhex(fields[1].partition(":")[0])
                packed = b"".join(packed[k : k + 4][::-1] for k in range(0, len(packed), 4))
                address = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
                addresses[fields[9]] = str(getattr(address, "ipv4_mapped", None) or address)
    return addresses
