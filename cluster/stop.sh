#!/usr/bin/env bash
# Stop Ray on the head before it is started again, unless a search runs there: Ray's end would be its end.
# `ray up` runs this. `ray up --no-restart` copies the code and leaves Ray as it is.
set -euo pipefail
if running=$(pgrep -u "$(id -u)" -af 'python[0-9.]* (.*/)?run\.py .*--(search|confirm|prepare)'); then
    echo "error: this head runs a search, which a restart of Ray would end: $running" >&2
    echo "First end it with: ray job stop ID. Or leave Ray as it is: ray up --no-restart FILE" >&2
    exit 1
fi
# shellcheck source=cluster/node.sh
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
ray stop
