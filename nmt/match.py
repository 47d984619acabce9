"""Using a trained matcher: load it, match pairs of a data set for a picture, or match two images of one's own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nmt import checkpoint
from nmt.batch import PairBatch, View
from nmt.config import Config, DecodeConfig, from_dict
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.data.store.features import FeatureTable
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.collate import PairIds, positions
from nmt.data.stream.pairs import eval_pairs, plain_batch
from nmt.errors import UserError
from nmt.model.matcher import Matcher
from nmt.model.sampling import sample_features
from nmt.pictures import MatchedPair, draw_sheet
from nmt.sinkhorn import decode


def load_matcher(path: Path) -> tuple[Matcher, Config, list[str]]:
    """The matcher of a checkpoint (best.pt or checkpoint.pt), its configuration and the categories it was trained on.

    A checkpoint of features mode gives a matcher without backbone. Raises UserError as `checkpoint.load` does.
    """
    from nmt.trainer import build_matcher

    content = checkpoint.load(path)
    config = from_dict(content["config"], source=str(path))
    weights = content["model"]
    if config.data.mode == "features":
        features = _Widths(weights["head.node_linear.weight"].shape[1], weights["head.global_linear.weight"].shape[1])
    else:
        features = None
    frozen = config.data.mode == "images" and config.optim.backbone_lr_scale == 0
    matcher = build_matcher(config.model, image_size=config.data.image_size, features=features, pretrained=frozen)
    matcher.load_state_dict(weights, strict=not frozen)
    return matcher.eval(), config, content["categories"]


@dataclass(frozen=True)
class _Widths:
    channels: int
    global_channels: int


@torch.inference_mode()
def match_batch(matcher: Matcher, batch: PairBatch, setting: DecodeConfig) -> np.ndarray:
    """(B, N) int64: for each source keypoint the matched target keypoint, -1 = none."""
    device = next(matcher.parameters()).device
    output = matcher(batch.to(device))
    predicted_BN = decode(
        output.similarity_BNM,
        output.mask0_BN,
        output.mask1_BM,
        epsilon=setting.epsilon,
        iterations=setting.sinkhorn_iterations,
        assignment=setting.assignment,
    )
    return predicted_BN.cpu().numpy()


def sample_pairs(
    matcher: Matcher, store: ObjectStore, features: FeatureTable | None, config: Config, *, split: str, count: int
) -> list[MatchedPair]:
    """`count` evaluation pairs of as many categories as there are, matched: always the same ones."""
    by_category: dict[int, list[PairIds]] = {}
    for pair in eval_pairs(store, config.data, split=split):
        by_category.setdefault(pair.category, []).append(pair)
    turns = [pairs[turn] for turn in range(count) for pairs in by_category.values() if turn < len(pairs)]
    chosen = turns[:count]
    was_training = matcher.training
    matcher.eval()
    predicted_BN = match_batch(matcher, plain_batch(store, chosen, features=features), config.decode)
    matcher.train(was_training)
    return [_matched(store, pair, row) for pair, row in zip(chosen, predicted_BN, strict=True)]


def draw_split(path: Path, *, data: Path | None, split: str, count: int = 8) -> np.ndarray:
    """A sheet of evaluation pairs of a split as the checkpoint at `path` matches them, uint8.

    Args:
        data: the Arrow data set; by default data/NAME of the checkpoint's configuration.
    """
    matcher, config, _ = load_matcher(path)
    place = data or Path("data") / config.data.name
    store = ObjectStore.open(place)
    in_features = config.data.mode == "features"
    features = FeatureTable.open(place, config.model, config.data.image_size) if in_features else None
    return draw_sheet(sample_pairs(matcher, store, features, config, split=split, count=count))


def _matched(store: ObjectStore, pair: PairIds, predicted_N: np.ndarray) -> MatchedPair:
    return MatchedPair(
        image0_HW3=store.image(pair.row0),
        image1_HW3=store.image(pair.row1),
        points0_N2=store.points(pair.row0)[positions(store, pair.row0, pair.keypoints0)],
        points1_M2=store.points(pair.row1)[positions(store, pair.row1, pair.keypoints1)],
        predicted_N=predicted_N[: len(pair.keypoints0)],
        match_N=pair.match_N,
        label=store.info.categories[pair.category],
    )


def match_images(
    path: Path, images: Sequence[Path], keypoints: Sequence[Path]
) -> tuple[MatchedPair, list[tuple[str, str | None]]]:
    """Match the keypoints of two images of one's own with the matcher at `path`.

    Args:
        images: two image files.
        keypoints: two CSV files, a line a keypoint: name,x,y in pixels of the image file.

    Returns:
        The pair for a picture, and (source name, matched target name) for each source keypoint.
    """
    matcher, config, _ = load_matcher(path)
    backbone = matcher.backbone
    if backbone is None:  # a head trained on features: its backbone is the one the features came from
        from nmt.model.backbone import build_backbone

        backbone = build_backbone(config.model, config.data.image_size)
    size = config.data.image_size
    pictures = [_read_image(image, size) for image in images]
    points = [_read_keypoints(file, *scale, size) for file, (_, scale) in zip(keypoints, pictures, strict=True)]
    views = [
        _single_view(backbone.eval(), picture, np.array(list(named.values()), np.float32), size)
        for (picture, _), named in zip(pictures, points, strict=True)
    ]
    names0, names1 = (list(named) for named in points)
    unknown_BN = torch.full((1, len(names0)), -1)
    batch = PairBatch(views[0], views[1], unknown_BN, torch.zeros(1, dtype=torch.int64))
    predicted_N = match_batch(matcher, batch, config.decode)[0]
    pair = MatchedPair(
        image0_HW3=pictures[0][0],
        image1_HW3=pictures[1][0],
        points0_N2=views[0].points_BN2[0].numpy(),
        points1_M2=views[1].points_BN2[0].numpy(),
        predicted_N=predicted_N,
        match_N=None,
        label=f"{images[0].name} -> {images[1].name}",
    )
    return pair, [(name, names1[k] if k >= 0 else None) for name, k in zip(names0, predicted_N, strict=True)]


@torch.inference_mode()
def _single_view(backbone: torch.nn.Module, image_HW3: np.ndarray, points_N2: np.ndarray, size: int) -> View:
    maps = backbone(torch.from_numpy(image_HW3.copy()).permute(2, 0, 1)[None])
    points_BN2 = torch.from_numpy(points_N2)[None]
    edges_2E = delaunay_edges(points_N2).astype(np.int64)
    return View(
        points_BN2=points_BN2,
        num_B=torch.tensor([len(points_N2)]),
        edge_index_2E=torch.from_numpy(edges_2E),
        edge_attr_E2=torch.from_numpy(edge_attributes(points_N2, edges_2E, size)),
        nodes_BNC=sample_features(maps.first_BCHW, maps.second_BCHW, points_BN2, size),
        global_BG=maps.global_BG.float(),
    )


def _read_image(path: Path, size: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The image as a uint8 square, and the factors (x, y) from its own pixels to the square's."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file).convert("RGB")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image") from error
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UserError(f"{path}: not a readable image ({error})") from error
    square = upright.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square), (size / upright.width, size / upright.height)


def _read_keypoints(path: Path, scale_x: float, scale_y: float, size: int) -> dict[str, tuple[float, float]]:
    """name -> (x, y) scaled, from a CSV file of name,x,y lines."""
    named: dict[str, tuple[float, float]] = {}
    try:
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or row == ["name", "x", "y"]:
                    continue
                try:
                    name, x, y = row
                    named[name] = (float(x) * scale_x, float(y) * scale_y)
                except ValueError as error:
                    raise UserError(
                        f"{path}:{number}: expected name,x,y in pixels, but got {','.join(row)!r}"
                    ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable keypoint file ({error}); expected lines name,x,y in pixels") from error
    outside = [name for name, (x, y) in named.items() if not (0 <= x <= size and 0 <= y <= size)]
    if outside:
        raise UserError(f"{path}: keypoint {outside[0]!r} lies outside the image")
    if len(named) < 2:
        raise UserError(f"{path}: {len(named)} keypoints; matching needs at least two lines name,x,y")
    return named
