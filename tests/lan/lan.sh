#!/usr/bin/env bash
# A private network on one machine: SHARE="folder ..." lan.sh COMMAND...
# COMMAND runs on "laptop" 10.99.0.1, beside "head" 10.99.0.2 and "worker" 10.99.0.3. Each is a host of its own, with its
# network, processes, host name, /etc/hosts, home, /tmp, /run and /dev/shm. Head and worker answer ssh with the key
# $LAN_KEY, and know each other only by address. All hosts see the folders in SHARE at the same path. All processes and
# mounts end with COMMAND. Needs root, openssh-server, rsync and iproute2.
set -euo pipefail

if [ -z "${LAN_DIR:-}" ]; then
    LAN_DIR=$(mktemp -d)
    trap 'rm -rf --one-file-system "$LAN_DIR"' EXIT
    export LAN_DIR LAN_KEY=$LAN_DIR/key
    unshare --net --pid --mount --uts --fork --kill-child --mount-proc "$0" "$@"
    exit
fi

# Give this mount namespace its own home, /tmp and /run below $1, and mount the shared folders in them.
own_folders() {
    mkdir -p "$1/home" "$1/tmp" "$1/run/sshd"
    chmod 700 "$1/home"
    chmod 1777 "$1/tmp"
    for folder in ${SHARE:-} "$LAN_DIR"; do
        for root in "$HOME:home" /tmp:tmp; do
            case $folder in
                "${root%:*}"/*)
                    place=$1/${root#*:}${folder#"${root%:*}"}
                    mkdir -p "$place"
                    mount --rbind "$folder" "$place"
                    ;;
            esac
        done
    done
    mount --rbind "$1/home" "$HOME"
    mount --rbind "$1/tmp" /tmp
    mount --rbind "$1/run" /run
}

# Run as the init process of a host: set up its network and folders, then start sshd.
run_host() {
    local name=$1 address=$2 own=$LAN_DIR/$1
    hostname "$name"
    ip link set lo up
    until ip link show eth0 > /dev/null 2>&1; do sleep 0.05; done
    ip address add "$address/24" dev eth0
    ip link set eth0 up
    mkdir -p "$own/home/.ssh"
    chmod 700 "$own/home/.ssh"
    cp "$LAN_KEY.pub" "$own/home/.ssh/authorized_keys"
    ssh-keygen -q -t ed25519 -N '' -f "$own/hostkey"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" > "$own/hosts" # as Debian and Ubuntu write it
    mount --bind "$own/hosts" /etc/hosts
    mount -t tmpfs -o size=4g tmpfs /dev/shm
    own_folders "$own"
    exec /usr/sbin/sshd -D -e -f /dev/null -h "$LAN_DIR/$name/hostkey" -o UsePAM=no -o StrictModes=no -o PidFile=none \
        -o PermitRootLogin=yes -o PasswordAuthentication=no -o MaxStartups=100 -o Subsystem="sftp internal-sftp"
}

if [ "$1" = --host ]; then
    run_host "$2" "$3"
fi

hostname laptop
ip link set lo up
ip link add lan0 type bridge
ip address add 10.99.0.1/24 dev lan0
ip link set lan0 up
ssh-keygen -q -t ed25519 -N '' -f "$LAN_KEY"
number=2
for name in head worker; do
    mkdir -p "$LAN_DIR/$name"
    unshare --net --pid --mount --uts --fork --kill-child --mount-proc "$0" --host "$name" "10.99.0.$number" \
        > "$LAN_DIR/$name.log" 2>&1 &
    until init=$(pgrep -P $!); do sleep 0.05; done
    ip link add "to-$name" type veth peer name eth0 netns "$init"
    ip link set "to-$name" master lan0 up
    number=$((number + 1))
done
for address in 10.99.0.2 10.99.0.3; do
    until timeout 1 bash -c "</dev/tcp/$address/22" 2> /dev/null; do sleep 0.1; done
done
own_folders "$LAN_DIR/laptop"
status=0
"$@" || status=$?
exit "$status"
