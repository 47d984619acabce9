#!/usr/bin/env bash
# Make /mnt/nmt on the machine's own NVMe disk, if it has one: scratch.sh. Copies of data sets and temporary files go
# there (cluster/node.sh). The disk's content is lost with the machine, so nothing else does.
set -euo pipefail
[ ! -e /mnt/nmt ] || exit 0

# Whether a disk is still without partitions, file system and use, or was made by this script before a reboot.
free() {
    [ -b "$1" ] && [ "$(lsblk --noheadings --output NAME "$1" | wc -l)" = 1 ] && ! grep -q "^$(realpath "$1") " /proc/mounts
}

folder=
if mountpoint -q /opt/dlami/nvme; then # AWS's image with NVIDIA's driver has mounted all of them there
    folder=/opt/dlami/nvme
else
    for disk in /dev/disk/by-id/nvme-Amazon_EC2_NVMe_Instance_Storage_* /dev/disk/by-id/google-local-*; do
        free "$disk" || continue
        case $(sudo blkid -p -o export "$disk" || true) in
            "") sudo mkfs.ext4 -q -L nmt "$disk" ;;
            *LABEL=nmt*) ;;
            *) continue ;; # somebody's data
        esac
        sudo mkdir -p /mnt/nvme
        sudo mount -o noatime "$disk" /mnt/nvme
        folder=/mnt/nvme
        break
    done
fi
[ -n "$folder" ] || exit 0
sudo install -d -o "$(id -u)" -g "$(id -g)" "$folder/nmt" "$folder/nmt/cache" "$folder/nmt/tmp"
sudo ln -sfn "$folder/nmt" /mnt/nmt
