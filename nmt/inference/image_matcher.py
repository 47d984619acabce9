"""Matching keypoints of two images with a trained matcher, loaded once and used for any number of pairs.

Letters as in nmt/batch.py; K matches.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nmt.batch import PairBatch, Side
from nmt.confidence import Calibration, chosen_calibration, match_confidence
from nmt.config import find_setting, with_overrides
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.decoding import predict
from nmt.device import one_thread, pick_device
from nmt.errors import UserError
from nmt.inference.image_features import ImageFeatures, SeenImage
from nmt.inference.inputs import Keypoints, check_keypoints
from nmt.inference.load import Trained, load_trained
from nmt.inference.matches import Matches
from nmt.model.efficientnet_lite import backbone_for_use
from nmt.unmatched import F1, OFF

if TYPE_CHECKING:
    from nmt.inference.inputs import ImageInput, KeypointInput

SMALL = 16_000_000
"""most parameters of backbone and head for which one CPU thread is about as fast as two"""
PAIRS_AT_ONCE = 32
"""pairs that pass the head together"""
UNMATCHED = "decode.unmatched"

GivenPair = tuple["ImageInput", "KeypointInput", "ImageInput", "KeypointInput"]
"""source image, its keypoints, target image, its keypoints"""


@dataclass(frozen=True, eq=False)
class _Prepared:
    """One side of a pair: an image whose features are known, and its keypoints in the square that the model reads."""

    seen: SeenImage
    given: Keypoints
    points_N2: np.ndarray
    nodes_NC: Tensor


class ImageMatcher:
    """A trained matcher for pairs of images: `nmt.load_matcher` makes one, `match` uses it any number of times.

    The images seen last are kept with their features: matching one again, at any keypoints, needs no backbone pass.
    """

    def __init__(self, trained: Trained, *, device: torch.device) -> None:
        """Build the backbone of a model that was trained on stored features, once.

        Args:
            trained: as `nmt.inference.load.load_trained` gives it; `decode` of its configuration is what `match`
                decodes with, and its calibration gives confidences and the lowest one of a match.
            device: where the model runs.
        """
        model, self.config = trained.matcher, trained.config
        size = self.config.data.image_size
        backbone = model.backbone or backbone_for_use(self.config.model, size)
        self.categories: tuple[str, ...] = tuple(trained.categories)
        """that the matcher was trained on; empty where the checkpoint does not know them"""
        self.keypoint_names: Mapping[str, Sequence[str]] = trained.keypoint_names
        """category -> names of its keypoints; empty where the checkpoint does not know them"""
        self.calibration: Calibration | None = trained.calibration
        """None: every source keypoint gets a match, and confidences are not calibrated"""
        self._device, self._model = device, model.to(device).eval()
        weights = sum(parameter.numel() for part in (model.head, backbone) for parameter in part.parameters())
        self._small = device.type == "cpu" and weights <= SMALL
        self._lock = threading.Lock()  # a server calls from several threads; the memory of images is one
        self._features = ImageFeatures(backbone.to(device).eval(), size, device=device)

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
        return self.match_pairs([(image0, keypoints0, image1, keypoints1)], labels=[label])[0]

    @torch.inference_mode()
    def match_pairs(self, pairs: Iterable[GivenPair], *, labels: Iterable[str] | None = None) -> list[Matches]:
        """Match the keypoints of many pairs, some at a time. The result is that of `match`, one by one.

        The matches hold the images; of very large ones, give some pairs at a time.

        Args:
            pairs: (image0, keypoints0, image1, keypoints1) each, as `match` takes them.
            labels: a caption for each pair.

        Raises:
            UserError: as of `match`; for several pairs it names the pair by its number, from 1.
        """
        with self._lock, one_thread(self._small):
            return self._match_pairs(list(pairs), labels)

    def _match_pairs(self, given: Sequence[GivenPair], labels: Iterable[str] | None) -> list[Matches]:
        captions = [""] * len(given) if labels is None else list(labels)
        found: list[Matches] = []
        for first in range(0, len(given), PAIRS_AT_ONCE):
            part = given[first : first + PAIRS_AT_ONCE]
            sides = [self._prepare_pair(pair, first + b, len(given)) for b, pair in enumerate(part)]
            found += self._match(sides, captions[first : first + PAIRS_AT_ONCE])
        return found

    def _prepare_pair(self, pair: GivenPair, number: int, count: int) -> tuple[_Prepared, _Prepared]:
        image0, keypoints0, image1, keypoints1 = pair
        try:
            return self._prepare(image0, keypoints0, "source"), self._prepare(image1, keypoints1, "target")
        except UserError as error:
            if count == 1:
                raise
            raise UserError(f"pair {number + 1}: {error}") from error

    def _prepare(self, image: ImageInput, keypoints: KeypointInput, side: str) -> _Prepared:
        seen = self._features.see(image, source=f"{side} image")
        given = check_keypoints(keypoints, seen.image_HW3, source=f"{side} keypoints")
        height, width = seen.image_HW3.shape[:2]
        size = self.config.data.image_size
        points_N2 = (given.points_N2 * (size / width, size / height)).astype(np.float32)
        return _Prepared(seen, given, points_N2, self._features.sample(seen, points_N2))

    def _match(self, sides: Sequence[tuple[_Prepared, _Prepared]], labels: Sequence[str]) -> list[Matches]:
        source, target = (self._side([both[s] for both in sides]) for s in (0, 1))
        num_N = source.points_BN2.shape[1]
        batch = PairBatch(
            source, target, torch.full((len(sides), num_N), -1), torch.zeros(len(sides), dtype=torch.int64)
        )
        output = self._model(batch.to(self._device))
        target_BN = predict(output, self.config.decode)
        similarity, masks = output.similarity_BNM.float(), (output.mask0_BN, output.mask1_BM)
        confidence_BN = match_confidence(similarity, *masks, target_BN, self.calibration)
        similarity_BN = similarity.gather(2, target_BN.clamp_min(0)[:, :, None])[:, :, 0]
        values = [value.cpu().numpy() for value in (target_BN, similarity_BN, confidence_BN)]
        return [
            self._matches(source, target, label, *(value[b, : len(source.points_N2)] for value in values))
            for b, ((source, target), label) in enumerate(zip(sides, labels, strict=True))
        ]

    def _matches(
        self, source: _Prepared, target: _Prepared, label: str, target_N: np.ndarray, similarity_N: np.ndarray,
        confidence_N: np.ndarray,
    ) -> Matches:  # fmt: skip
        threshold = self.calibration.threshold if self.calibration else 0.0
        if threshold > 0:
            target_N = one_each(np.where(confidence_N < threshold, -1, target_N), confidence_N)
        source_K = (target_N >= 0).nonzero()[0]
        return Matches(
            indices=np.stack([source_K, target_N[source_K]], axis=1),
            similarity=similarity_N[source_K],
            confidence=confidence_N[source_K],
            calibrated=self.calibration is not None,
            threshold=threshold or None,
            points0=source.given.points_N2,
            points1=target.given.points_N2,
            names0=source.given.names,
            names1=target.given.names,
            image0=source.seen.image_HW3,
            image1=target.seen.image_HW3,
            label=label,
        )

    def _side(self, several: Sequence[_Prepared]) -> Side:
        """Pad the sides of some pairs to the longest; their graphs become one."""
        counts = [len(one.points_N2) for one in several]
        size, width = self.config.data.image_size, max(counts)
        points_BN2 = np.zeros((len(several), width, 2), np.float32)
        nodes_BNC = several[0].nodes_NC.new_zeros(len(several), width, several[0].nodes_NC.shape[1])
        edges, attributes = [], []
        for b, one in enumerate(several):
            points_BN2[b, : counts[b]] = one.points_N2
            nodes_BNC[b, : counts[b]] = one.nodes_NC
            edges_2E = delaunay_edges(one.points_N2).astype(np.int64)
            attributes.append(edge_attributes(one.points_N2, edges_2E, size))
            edges.append(edges_2E + b * width)
        return Side(
            points_BN2=torch.from_numpy(points_BN2),
            num_B=torch.tensor(counts),
            edge_index_2E=torch.from_numpy(np.concatenate(edges, axis=1)),
            edge_attr_E2=torch.from_numpy(np.concatenate(attributes)),
            nodes_BNC=nodes_BNC,
            global_BG=torch.cat([one.seen.maps.global_BG.float() for one in several]),
        )


def one_each(target_N: np.ndarray, confidence_N: np.ndarray) -> np.ndarray:
    """Leave each target keypoint to the most confident of the source keypoints that chose it.

    Two source keypoints cannot both be the partner of one target keypoint.

    Args:
        target_N: int64, the chosen target keypoint; -1 = none.
        confidence_N: of each choice.
    """
    kept_N = np.full_like(target_N, -1)
    taken: set[int] = set()
    for n in np.argsort(-confidence_N, kind="stable").tolist():
        if target_N[n] >= 0 and int(target_N[n]) not in taken:
            kept_N[n] = target_N[n]
            taken.add(int(target_N[n]))
    return kept_N


def load_image_matcher(
    path: str | Path, *, overrides: Mapping[str, Any] | None = None, device: torch.device | str | None = None
) -> ImageMatcher:
    """Load the matcher of a checkpoint.

    Args:
        path: the checkpoint (best.pt).
        overrides: configuration keys read at inference, {"decode.assignment": "hungarian"}. decode.unmatched chooses
            another lowest confidence of a match than that of the checkpoint; "off" matches every source keypoint.
        device: where it runs; by default the GPU where there is one.

    Raises:
        UserError: no such checkpoint, a damaged one, or a key in `overrides` that is not read at inference.
    """
    for key in overrides or {}:
        if not find_setting(key, source="overrides").inference:
            raise UserError(f"overrides: {key} is read in training; a loaded matcher takes decode.* alone")
    wanted_device = torch.device(device) if device is not None else pick_device()
    with one_thread(wanted_device.type == "cpu"):  # the backbone computes one blank image
        trained = load_trained(Path(path))
        return ImageMatcher(_changed(trained, overrides or {}, path), device=wanted_device)


def _changed(trained: Trained, overrides: Mapping[str, Any], path: str | Path) -> Trained:
    """Change the decoding of a trained matcher. Raises UserError."""
    config = with_overrides(trained.config, overrides, source="overrides")
    unmatched = config.decode.unmatched
    if unmatched == OFF and UNMATCHED not in overrides and trained.calibration is not None:
        # "off" in a checkpoint is the published default of --evaluate, and nobody's choice for the use of the matcher.
        unmatched = F1
    calibration = chosen_calibration(trained.calibration, unmatched, source=str(path))
    return dataclasses.replace(trained, config=config, calibration=calibration)
