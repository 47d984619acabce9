"""The scripts of a node that the clusters' files run before Ray: what they refuse, and which disk they take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.paths import ROOT

CLUSTER = ROOT / "cluster"


@pytest.mark.parametrize("words", ["--search voc --resume", "--data x --confirm voc", "--prepare voc"])
def test_ray_is_not_stopped_while_a_search_runs(tmp_path: Path, words: str) -> None:
    """A real process whose command line is a search's. Ray is not in the script's PATH, so nothing could be stopped."""
    (tmp_path / "run.py").write_text("input()")
    command = [sys.executable, "run.py", *words.split()]
    search = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        ran = subprocess.run(
            ["bash", CLUSTER / "stop.sh"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )
    finally:
        search.kill()
        search.communicate()
    assert ran.returncode == 1 and ran.stdout == ""
    assert "error: this head runs a search" in ran.stderr and words in ran.stderr
    assert "ray up --no-restart" in ran.stderr


DISKS = """
set -euo pipefail
mount -t tmpfs tmpfs /mnt
[ -d /dev/disk ] || mkdir /dev/disk
mount -t tmpfs tmpfs /dev/disk
mkdir /dev/disk/by-id
disk=$(losetup --find --show "$1")
trap 'umount -q /mnt/nvme || true; losetup --detach "$disk"' EXIT
ln -s "$disk" "/dev/disk/by-id/$2"
bash "$3/scratch.sh"
. "$3/node.sh"
mounted=$(findmnt -no SOURCE --target "$(realpath /mnt/nmt)" 2> /dev/null | grep -cx "$disk" || true)
echo "$mounted ${NMT_CACHE:-none} ${TMPDIR:-none}"
if [ -e /mnt/nmt ]; then
    touch /mnt/nmt/cache/kept
    bash "$3/scratch.sh"          # `ray up` again
    umount /mnt/nvme              # a reboot
    bash "$3/scratch.sh"
    ls /mnt/nmt/cache
fi
"""


def missing() -> str:
    """Why a disk cannot be made here; empty where it can."""
    if os.geteuid() != 0:
        return "needs root, for a disk"
    tools = [tool for tool in ("unshare", "losetup", "mkfs.ext4", "blkid", "lsblk") if shutil.which(tool) is None]
    if tools:
        return f"needs {', '.join(tools)}"
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(2**20)
        words = f"mount -t tmpfs tmpfs /mnt && disk=$(losetup --find --show {file.name}) && losetup --detach $disk"
        tried = subprocess.run(["unshare", "--mount", "sh", "-c", words], capture_output=True, text=True, check=False)
    return f"no loop device: {tried.stderr.strip()}" if tried.returncode else ""


def scratch(tmp_path: Path, name: str, *, content: str = "") -> list[str]:
    """Run the script where a disk of that name is the only one; what node.sh then makes of it."""
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    if content == "a file system":
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
    sudo = tmp_path / "bin" / "sudo"
    sudo.parent.mkdir()
    sudo.write_text('#!/bin/sh\nexec "$@"\n')  # root needs none
    sudo.chmod(0o755)
    ran = subprocess.run(
        ["unshare", "--mount", "bash", "-c", DISKS, "disks", image, name, CLUSTER],
        env={"PATH": f"{sudo.parent}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("name", ["nvme-Amazon_EC2_NVMe_Instance_Storage_AWS1", "google-local-nvme-ssd-0"])
def test_the_machines_own_disk_takes_copies_and_temporary_files(tmp_path: Path, name: str) -> None:
    assert scratch(tmp_path, name) == ["1", "/mnt/nmt/cache", "/mnt/nmt/tmp", "kept"]


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize(
    ("name", "content"),
    [("nvme-Amazon_Elastic_Block_Store_vol1", ""), ("nvme-Amazon_EC2_NVMe_Instance_Storage_AWS1", "a file system")],
)
def test_another_disk_or_one_with_data_is_left_alone(tmp_path: Path, name: str, content: str) -> None:
    assert scratch(tmp_path, name, content=content) == ["0", "none", "none"]
