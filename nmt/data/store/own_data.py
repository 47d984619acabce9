"""The recipe of a user's data set that has no file in search_spaces/, fitted to how the data set was prepared."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from nmt.config import Config, with_overrides
from nmt.data.store.present import OBJECTS_FILE, prepare_command
from nmt.errors import UserError
from nmt.io.address import is_address


def fitted(config: Config, data: str | Path, *, chosen: Collection[str]) -> Config:
    """Return the configuration with the image size of the prepared data set.

    A data set at an address is not read: that takes a download. One that is damaged is reported by whoever opens it.

    Args:
        config: recipe of own data, with the user's keys.
        data: the data set, which may not be there yet.
        chosen: keys that the user has set.
    """
    if "data.image_size" in chosen or is_address(str(data)) or not (Path(data) / OBJECTS_FILE).is_file():
        return config
    from nmt.data.store.objects import ObjectStore

    with contextlib.suppress(UserError):
        size = ObjectStore.open(Path(data)).info.image_size
        return with_overrides(config, {"data.image_size": size}, source=str(data))
    return config


def require_own_features(config: Config, data: str | Path) -> None:
    """Check that the data set holds the stored features that the recipe of own data trains on.

    A data set that is missing is reported by whoever opens it.

    Raises:
        UserError: it holds none of this backbone. The line names the command that makes them, and the keys with which
            the data set can be trained as it is.
    """
    if config.data.mode != "features" or is_address(str(data)) or not (Path(data) / OBJECTS_FILE).is_file():
        return
    from nmt.data.store.features import features_pattern

    folder, backbone = Path(data), config.model.backbone
    if any(folder.glob(features_pattern(config.model, config.data.image_size))):
        return
    ways = [f"make them with: {prepare_command(config.data.name, data=data)}"]
    ways += [f"train on those of {name} with --set model.backbone={name}" for name in _stored(folder, config)]
    ways.append("train end to end on the images with --set data.mode=images")
    raise UserError(f"{folder}: holds no stored features of {backbone}; {', or '.join(ways)}")


def _stored(folder: Path, config: Config) -> list[str]:
    """List the other backbones that the recipe could train on the features of, as it is."""
    from nmt.data.store.arrow import ArrowTable
    from nmt.data.store.features import features_pattern

    found = set()
    for path in sorted((folder / "features").glob("*.arrow")):
        with contextlib.suppress(UserError):
            name = str(ArrowTable(path, remedy="").metadata.get("backbone"))
            model = with_overrides(config, {"model.backbone": name}, source=str(path)).model
            if path.match(features_pattern(model, config.data.image_size)):
                found.add(name)
    return sorted(found)
