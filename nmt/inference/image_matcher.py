"""Matching keypoints of two images with a trained matcher, loaded once and used for any number of pairs.

Letters as in nmt/batch.py; K matches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nmt.batch import PairBatch, Side
from nmt.config import Config, find_setting, with_overrides
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.decoding import predict
from nmt.device import pick_device
from nmt.errors import UserError
from nmt.inference.inputs import Keypoints, check_keypoints, read_image
from nmt.inference.load import load_model
from nmt.inference.pictures import MatchedPair, draw_pair
from nmt.model.matcher import Matcher

if TYPE_CHECKING:
    from nmt.inference.inputs import ImageInput, KeypointInput


@dataclass(frozen=True, eq=False)
class Matches:
    """The matches between the keypoints of two images. Printed: one line per source keypoint.

    A source keypoint without a match has no row in `indices`.
    """

    indices: np.ndarray
    """(K, 2) int64: source keypoint, target keypoint"""
    similarity: np.ndarray
    """(K,) float32: cosine of the two keypoints' features after the last decoder layer, -1 to 1"""
    points0: np.ndarray
    """(N, 2) float64: the source keypoints, pixels (x, y)"""
    points1: np.ndarray
    """(M, 2) float64: the target keypoints, pixels (x, y)"""
    names0: tuple[str, ...] | None
    """names of the source keypoints; None where they were given without"""
    names1: tuple[str, ...] | None
    """names of the target keypoints; None where they were given without"""
    image0: np.ndarray
    """(H, W, 3) uint8: the source image, upright"""
    image1: np.ndarray
    """(H, W, 3) uint8: the target image, upright"""
    label: str = ""
    """caption of the picture"""

    def names(self) -> dict[str, str | None]:
        """Name each source keypoint's match; None where it has none. Keypoints without names are numbered."""
        names0, names1 = _named(self.names0, self.points0), _named(self.names1, self.points1)
        target = dict(self.indices.tolist())
        return {name: names1[target[n]] if n in target else None for n, name in enumerate(names0)}

    def draw(self, *, side: int = 384) -> np.ndarray:
        """Draw both images side by side in their own proportions, a line for each match.

        Args:
            side: pixels of the longer side of each image.

        Returns:
            (height, width, 3) uint8.
        """
        predicted_N = np.full(len(self.points0), -1)
        predicted_N[self.indices[:, 0]] = self.indices[:, 1]
        pair = MatchedPair(
            image0_HW3=self.image0,
            image1_HW3=self.image1,
            points0_N2=self.points0,
            points1_M2=self.points1,
            predicted_N=predicted_N,
            match_N=None,
            label=self.label,
        )
        return draw_pair(pair, side=side)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        similarity = dict(zip(self.indices[:, 0].tolist(), self.similarity.tolist(), strict=True))
        for n, (name, match) in enumerate(self.names().items()):
            yield f"{name} -> {match}" + (f"  {similarity[n]:.2f}" if n in similarity else "")


def _named(names: tuple[str, ...] | None, points: np.ndarray) -> tuple[str, ...]:
    return names if names is not None else tuple(map(str, range(len(points))))


class ImageMatcher:
    """A trained matcher for pairs of images: `nmt.load_matcher` makes one, `match` uses it any number of times."""

    def __init__(self, model: Matcher, config: Config, *, device: torch.device) -> None:
        """Build the backbone for a model that was trained on stored features, once.

        Args:
            model: as `nmt.inference.load.load_model` gives it.
            config: the configuration it was trained with; `decode` is what `match` decodes with.
            device: where both run.
        """
        backbone = model.backbone
        if backbone is None:
            from nmt.model.backbone import build_backbone

            backbone = build_backbone(config.model, config.data.image_size)
        self.config = config
        self._device = device
        self._model, self._backbone = model.to(device).eval(), backbone.to(device).eval()

    def match(
        self,
        image0: ImageInput,
        keypoints0: KeypointInput,
        image1: ImageInput,
        keypoints1: KeypointInput,
        *,
        label: str = "",
    ) -> Matches:
        """Match the keypoints of a source image to those of a target image.

        Args:
            image0, image1: a path, a PIL image, or an array (H, W, 3) of uint8.
            keypoints0, keypoints1: {name: (x, y)} or (N, 2), pixels of the image as viewers show it; at least two.
            label: caption of the picture that `Matches.draw` draws.

        Raises:
            UserError: an unreadable image, or keypoints of another shape or outside the image.
        """
        return self._match(
            *self._read(image0, keypoints0, "source"), *self._read(image1, keypoints1, "target"), label=label
        )

    def _read(self, image: ImageInput, keypoints: KeypointInput, side: str) -> tuple[np.ndarray, Keypoints]:
        image_HW3 = read_image(image, source=f"{side} image")
        return image_HW3, check_keypoints(keypoints, image_HW3, source=f"{side} keypoints")

    @torch.inference_mode()
    def _match(
        self, image0_HW3: np.ndarray, given0: Keypoints, image1_HW3: np.ndarray, given1: Keypoints, *, label: str
    ) -> Matches:
        unknown_BN = torch.full((1, len(given0.points_N2)), -1)
        sides = self._side(image0_HW3, given0.points_N2), self._side(image1_HW3, given1.points_N2)
        batch = PairBatch(*sides, unknown_BN, torch.zeros(1, dtype=torch.int64)).to(self._device)
        output = self._model(batch)
        target_N = predict(output, self.config.decode)[0].cpu()
        source_K = (target_N >= 0).nonzero()[:, 0]
        indices_K2 = torch.stack([source_K, target_N[source_K]], dim=1)
        similarity_NM = output.similarity_BNM[0].float().cpu()
        return Matches(
            indices=indices_K2.numpy(),
            similarity=similarity_NM[indices_K2[:, 0], indices_K2[:, 1]].numpy(),
            points0=given0.points_N2,
            points1=given1.points_N2,
            names0=given0.names,
            names1=given1.names,
            image0=image0_HW3,
            image1=image1_HW3,
            label=label,
        )

    def _side(self, image_HW3: np.ndarray, points_N2: np.ndarray) -> Side:
        """Return the image as the square that the model reads, its keypoints moved with it."""
        from PIL import Image

        size = self.config.data.image_size
        height, width = image_HW3.shape[:2]
        square = Image.fromarray(image_HW3).resize((size, size), Image.Resampling.BILINEAR)
        points_N2 = (points_N2 * (size / width, size / height)).astype(np.float32)
        points_BN2 = torch.from_numpy(points_N2)[None]
        edges_2E = delaunay_edges(points_N2).astype(np.int64)
        maps = self._backbone(torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].to(self._device))
        return Side(
            points_BN2=points_BN2,
            num_B=torch.tensor([len(points_N2)]),
            edge_index_2E=torch.from_numpy(edges_2E),
            edge_attr_E2=torch.from_numpy(edge_attributes(points_N2, edges_2E, size)),
            nodes_BNC=self._backbone.sample(maps, points_BN2.to(self._device)),
            global_BG=maps.global_BG.float(),
        )


def load_image_matcher(
    path: str | Path, *, overrides: Mapping[str, Any] | None = None, device: torch.device | str | None = None
) -> ImageMatcher:
    """Load the matcher of a checkpoint.

    Args:
        path: the checkpoint (best.pt).
        overrides: configuration keys read at inference, {"decode.assignment": "hungarian"}.
        device: where it runs; by default the GPU where there is one.

    Raises:
        UserError: no such checkpoint, a damaged one, or a key in `overrides` that is not read at inference.
    """
    for key in overrides or {}:
        if not find_setting(key, source="overrides").inference:
            raise UserError(f"overrides: {key} is read in training; a loaded matcher takes decode.* alone")
    model, config, _ = load_model(Path(path))
    config = with_overrides(config, overrides or {}, source="overrides")
    return ImageMatcher(model, config, device=torch.device(device) if device is not None else pick_device())
