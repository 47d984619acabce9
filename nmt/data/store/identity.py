"""Keep results of different data sets apart: what was trained remembers the identity of its data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmt.errors import UserError


def data_set_record(identity: str, place: str | Path) -> dict[str, str]:
    """Return the record of a data set that results carry.

    Args:
        identity: see nmt.data.store.objects.StoreInfo.identity.
        place: where the data set was, to help a person find it again.
    """
    return {"identity": identity, "place": str(place)}


def saved_record(path: Path) -> Any:
    """Read a record that was written to a JSON file of its own; None without one that can be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def check_same(saved: Any, identity: str, *, where: str | Path, data: str | Path) -> None:
    """Check that results continue on the data set that they were made on.

    Args:
        saved: the record that the results carry, or only the identity. Older results carry none, which is accepted.
        identity: that of the data set given now.
        where: the results.
        data: the data set given now, as the user wrote it.

    Raises:
        UserError: it is another data set.
    """
    record = saved if isinstance(saved, Mapping) else {"identity": saved}
    there = record.get("identity")
    if not isinstance(there, str) or there == identity:
        return
    place = f" (then in {record['place']})" if "place" in record else ""
    raise UserError(
        f"{where}: trained on the data set {there}{place}, but {data} is the data set {identity}, and their results do "
        f"not compare; give the first one with --data, or choose another --results"
    )
