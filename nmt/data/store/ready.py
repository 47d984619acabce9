"""TODO docstring of nmt.data.store.ready."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nmt.config import Config
from nmt.errors import UserError


def check_data(configs: Sequence[Config], data: Path) -> None:
    """That the data set, and the features of every backbone, are there. Raises UserError."""
    from nmt.data.store.features import open_features
    from nmt.data.store.objects import ObjectStore

    store = ObjectStore.open(data)
    for config in {(c.data, c.model.backbone, c.model.weights): c for c in configs}.values():
        size = config.data.image_size
        if store.info.image_size != size:
            raise UserError(
                f"{data}: made at {store.info.image_size} pixels, but data.image_size is {size}; "
                f"prepare it again or set data.image_size={store.info.image_size}"
            )
        if config.data.mode == "features":
            open_features(data, config)
