# shellcheck shell=bash
# What a node of a cluster has in its shells and when Ray starts; sourced by ~/.bashrc, the start commands and slurm.sbatch.
PATH="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv/bin:$PATH"
export PATH RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

# Where ssh was answered is the address that the other nodes know; Ray's own guess needs a route to the internet.
set_address() {
    [ -n "${SSH_CONNECTION:-}" ] && NODE_IP=$(cut -d ' ' -f 3 <<< "$SSH_CONNECTION")
    # Gloo takes the address of the host's name, which many systems say is 127.0.1.1; the interface leaves no doubt.
    GLOO_SOCKET_IFNAME=$(ip -o -4 addr show | awk -v ip="$NODE_IP/" 'index($4, ip) == 1 { print $2; exit }')
    export NODE_IP GLOO_SOCKET_IFNAME
}

ulimit -n "$(ulimit -Hn)"  # Ray opens many files
