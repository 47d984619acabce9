#!/usr/bin/env bash
# End this machine once Ray's head has not answered for a while: orphan.sh HOST:PORT SECONDS COMMAND...
# A worker whose head has died would run, and cost, for ever: it was the head's part to end it. COMMAND ends the machine.
# A head that never answers counts too, and so does one that accepts connections but no longer responds.
set -u
address=$1 limit=$2
shift 2
# shellcheck source=cluster/node.sh
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"

# The newest of these scripts goes on, the others end: after `ray up` the head may have another address.
newest=~/.nmt-orphan
echo $$ > "$newest"
seen=$SECONDS state=
while [ "$(cat "$newest" 2> /dev/null || echo $$)" = $$ ]; do
    if timeout 60 ray health-check --address "$address" > /dev/null 2>&1; then
        [ "$state" = found ] || echo "$(date): the head answers at $address"
        seen=$SECONDS state=found
    else
        [ "$state" = lost ] || echo "$(date): no head answers at $address"
        state=lost
        if [ $((SECONDS - seen)) -ge "$limit" ]; then
            echo "$(date): for $((SECONDS - seen)) s by now: $*"
            "$@"
        fi
    fi
    sleep $((limit / 10 + 1))
done
