"""Weights of a hub (`model.weights=hub`): one verified file per node, and a copy beside the data set.

A node looks in its own cache first, then beside the data set, then in Hugging Face's cache, and asks the hub last. So
a node without internet finds what another one has left beside the data. A file is named by its model and its content:
weights/resnet18.a1_in1k-0123456789ab.safetensors. It is compared with its name whenever it is opened.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

from nmt.errors import UserError, one_line
from nmt.io.cache import cache_folder, make_folder
from nmt.io.files import atomic_output, file_lock
from nmt.io.location import Location
from nmt.model.weights import hub_error, read_state

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

FOLDER = "weights"
"""folder of the weights, below the cache and below a data set"""
ATTEMPTS, FIRST_PAUSE = 4, 1.0
"""tries of a download; seconds before the second try, doubled for each further one"""
ANSWER_SECONDS = 10.0
"""wait for an answer of the hub"""
HASH_DIGITS = 12
FILES = ("model.safetensors", "pytorch_model.bin")
"""file of the weights at the hub: the first that is there"""

log = logging.getLogger(__name__)


def open_weights(name: str, beside: str | Path | None = None, *, offer: bool = False) -> Path:
    """Bring the weights of a model to this node, and check them. Processes of a node do it one after the other.

    Args:
        name: timm's name of the model.
        beside: the data set, a folder or an address, that may have a copy.
        offer: leave a copy beside the data set if it has none, for nodes without internet.

    Returns:
        The file, safetensors or a PyTorch file without code.

    Raises:
        UserError: timm has no weights of this model, or the cache of this node cannot be made.
        TemporaryError: they are nowhere to be found now; the line says what to do.
    """
    config = _config(name)
    stem = f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)
    folder = cache_folder() / FOLDER
    make_folder(folder)
    with file_lock(folder / f".{stem}.lock"):
        path = _cached(folder, stem) or (_from_beside(folder, stem, str(beside)) if beside is not None else None)
        if path is None:
            path = _keep(_download(name, config), folder, stem)
    if offer and beside is not None:
        _offer(path, stem, str(beside))
    return path


def content_hash(path: Path) -> str:
    """Return the first 12 hex digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:HASH_DIGITS]


def _config(name: str) -> PretrainedCfg:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise UserError(f"model.weights=hub: timm has no weights for {name}; use a file or random")
    return config


def _of(stem: str, file: str) -> bool:
    """True if `file` is a name of weights of the model."""
    return re.fullmatch(rf"{re.escape(stem)}-[0-9a-f]{{{HASH_DIGITS}}}\.\w+", file) is not None


def _is_whole(path: Path) -> bool:
    return path.stem.endswith(f"-{content_hash(path)}")


def _cached(folder: Path, stem: str) -> Path | None:
    """Return the file of the model in the cache; a damaged one is removed."""
    for path in sorted(path for path in folder.iterdir() if _of(stem, path.name)):
        if _is_whole(path):
            return path
        log.warning("%s: damaged, fetched again", path)
        path.unlink()
    return None


def _from_beside(folder: Path, stem: str, data: str) -> Path | None:
    """Copy the file of the model from beside the data set into the cache, if a whole one is there."""
    place = Location(data, attempts=2)
    try:
        there = place.names(FOLDER)
        for name in sorted(name for name in there if _of(stem, PurePosixPath(name).name)):
            path = folder / PurePosixPath(name).name
            place.copy(name, there[name], path)
            if _is_whole(path):
                return path
            log.warning("%s/%s: damaged, not used", data, name)
            path.unlink()
    except UserError as error:
        log.info("weights beside the data set: %s", error)
    return None


def _offer(path: Path, stem: str, data: str) -> None:
    """Leave a copy beside the data set. One that cannot be written there is only missed by nodes without internet."""
    place = Location(data, attempts=2)
    try:
        if not any(_of(stem, PurePosixPath(name).name) for name in place.names(FOLDER)):
            place.upload(path, f"{FOLDER}/{path.name}")
    except UserError as error:
        log.info("%s is not kept beside the data set: %s", path.name, error)


def _keep(found: Path, folder: Path, stem: str) -> Path:
    """Copy a downloaded file into the cache. Raises UserError if it is none of weights alone."""
    read_state(found)
    path = folder / f"{stem}-{content_hash(found)}{found.suffix}"
    with atomic_output(path) as partial:
        shutil.copyfile(found, partial)
    return path


def _download(name: str, config: PretrainedCfg) -> Path:
    """Return the file in the cache of Hugging Face or PyTorch, downloaded if it is not there. Tries several times."""
    for attempt in range(ATTEMPTS):
        try:
            return _from_hub(config) if config.hf_hub_id else _from_url(str(config.url))
        except Exception as error:  # the hub's HTTP client, and with it the exceptions, differs between versions
            if attempt == ATTEMPTS - 1 or _would_repeat(error):
                _give_up(name, config, error)
        log.info("the weights of %s cannot be fetched yet; trying again", name)
        time.sleep(FIRST_PAUSE * 2**attempt)
    raise AssertionError("unreachable")


def _would_repeat(error: Exception) -> bool:
    """True for an answer of the hub itself, and where the user has forbidden to ask it."""
    from huggingface_hub import constants, errors

    answers = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError)
    return constants.HF_HUB_OFFLINE or isinstance(error, (*answers, errors.GatedRepoError))


def _give_up(name: str, config: PretrainedCfg, error: Exception) -> NoReturn:
    from huggingface_hub import constants

    where = f"{constants.ENDPOINT}/{config.hf_hub_id}" if config.hf_hub_id else config.url
    cause = error.__cause__ or error
    if constants.HF_HUB_OFFLINE:
        reason = f"not in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set"
    else:
        reason = f"{where} cannot be reached ({type(cause).__name__}: {one_line(cause)})"
    raise hub_error(name, reason) from error


def _from_hub(config: PretrainedCfg) -> Path:
    from huggingface_hub import constants, errors, get_session, hf_hub_download, try_to_load_from_cache

    repository, _, revision = str(config.hf_hub_id).partition("@")
    place: dict[str, Any] = {"repo_id": repository, "revision": revision or None}
    files = [config.hf_hub_filename] if config.hf_hub_filename else FILES
    for file in files:
        if isinstance(found := try_to_load_from_cache(filename=file, **place), str):
            return Path(found)
    if not constants.HF_HUB_OFFLINE:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_SECONDS)  # else it would try for half a minute each time
    missing: Exception | None = None
    for file in files:
        try:
            return Path(hf_hub_download(filename=file, endpoint=constants.ENDPOINT, **place))
        except errors.RemoteEntryNotFoundError as error:
            missing = error
    assert missing is not None
    raise missing


def _from_url(url: str) -> Path:
    """Download a file that timm keeps elsewhere, into PyTorch's cache. Its name ends with its hash."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(url).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        digits = torch.hub.HASH_REGEX.search(path.name)
        torch.hub.download_url_to_file(url, str(path), digits[1] if digits else None, progress=False)
    return path
