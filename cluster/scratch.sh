#!/usr/bin/env bash
# Make /mnt/nmt on the machine's own NVMe disk, if it has one: scratch.sh. Copies of data sets and temporary files go
# there (cluster/node.sh). The disk's content is lost with the machine, so nothing else does.
set -euo pipefail
[ ! -e /mnt/nmt ] || exit 0

folder=
if mountpoint -q /opt/dlami/nvme; then  # AWS's image with NVIDIA's driver has mounted all of them there
    folder=/opt/dlami/nvme
else
    for disk in /dev/disk/by-id/nvme-Amazon_EC2_NVMe_Instance_Storage_* /dev/disk/by-id/google-local-*; do
        # The first that exists and has neither partitions nor a file system nor a mount.
        if [ -b "$disk" ] && [ "$(lsblk --noheadings --output NAME "$disk" | wc -l)" = 1 ] && ! sudo blkid -p "$disk"; then
            sudo mkfs.ext4 -q -E nodiscard "$disk"
            sudo mkdir -p /mnt/nvme
            sudo mount -o noatime "$disk" /mnt/nvme
            folder=/mnt/nvme
            break
        fi
    done
fi
[ -n "$folder" ] || exit 0
sudo install -d -o "$(id -u)" -g "$(id -g)" "$folder/nmt" "$folder/nmt/cache" "$folder/nmt/tmp"
sudo ln -s "$folder/nmt" /mnt/nmt
