# shellcheck shell=bash
# The environment of a cluster node. Sourced by ~/.bashrc, by Ray's start commands and by slurm.sbatch.
PATH="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv/bin:$PATH"
export PATH RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# No port for metrics, as in tune/cluster/access.py.
export RAY_enable_metrics_collection=0 AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1

# The machine's own disk takes the copies of data sets and temporary files (cluster/scratch.sh).
if [ -w /mnt/nmt ]; then
    export NMT_CACHE=/mnt/nmt/cache TMPDIR=/mnt/nmt/tmp
fi

# The other nodes know this host by the address that ssh used. Ray's own guess needs a route to the internet.
set_address() {
    [ -n "${SSH_CONNECTION:-}" ] && NODE_IP=$(cut -d ' ' -f 3 <<< "$SSH_CONNECTION")
    # Gloo resolves the host's name, which many systems map to 127.0.1.1. So name the network interface.
    GLOO_SOCKET_IFNAME=$(ip -o -4 addr show | awk -v ip="$NODE_IP/" 'index($4, ip) == 1 { print $2; exit }')
    export NODE_IP GLOO_SOCKET_IFNAME
}

ulimit -n "$(ulimit -Hn)"  # Ray opens many files
