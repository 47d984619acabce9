"""How well a matcher leaves out keypoints that have no partner, measured on the outlier protocols of a split."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from nmt.calibration import fit_on_val, matches_of, protocol_similarities
from nmt.confidence import Calibration, Rows, chosen_calibration, figures
from nmt.config import Config
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.collate import Features
from nmt.data.stream.outliers import CROSS, FITTED
from nmt.errors import UserError
from nmt.io.table import aligned, wrapped
from nmt.model.matcher import Matcher
from nmt.unmatched import F1, OFF

PAIRS = 200
"""most pairs of a protocol, spread over the categories"""
NOC, MIX = "noc", "mix"
"""pools: the protocols that a calibration is fitted on without cross, and with it"""
ALL_MATCHED = "f1_all_matched"
_COLUMNS = {
    "kept": "kept",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    ALL_MATCHED: "F1 if all matched",
    "auc": "AUC",
    "ece": "ECE",
}


@dataclass(frozen=True)
class OutlierFigures:
    """Figures of a matcher's confidences by protocol, and of the matches that are left at its threshold."""

    pairs: int
    """pairs of each protocol; 0 if nothing was measured"""
    threshold: float
    """lowest confidence of a match"""
    chosen: str
    """how the threshold was chosen: f1, precision=P, or a number"""
    figures: dict[str, dict[str, float]]
    """protocol or pool -> figure -> value; see nmt.confidence.figures. A figure that is not defined is left out"""
    note: str
    """where confidences and threshold come from, or why there are none"""

    def table(self) -> str:
        """Format the figures, one row per protocol and pool, below a line that says what they are of."""
        if not self.pairs:
            return wrapped(self.note, indent="  ")
        rows = [["protocol", *_COLUMNS.values()]]
        for name, found in self.figures.items():
            rows.append([name, *(f"{found[key]:.3f}" if key in found else "-" for key in _COLUMNS)])
        head = (
            f"keypoints without a partner, {self.pairs} pairs a protocol: matches below a confidence of "
            f"{self.threshold:.3f} ({self.chosen}) are left out; {self.note}"
        )
        return f"{wrapped(head, indent='  ')}\n{aligned(rows, left=1)}"


def outlier_figures(
    matcher: Matcher,
    store: ObjectStore,
    config: Config,
    calibration: Calibration | None,
    *,
    split: str,
    features: Features | None,
    device: torch.device,
    source: str,
) -> OutlierFigures:
    """Measure a matcher on the outlier protocols of a split.

    A calibration that is missing is fitted on val on the spot, as the end of a training does.

    Args:
        matcher: in evaluation mode, on `device`.
        store: the data set.
        config: its configuration; `decode` chooses the targets and the threshold. Where `decode.unmatched` is off, the
            threshold of highest F1 counts.
        calibration: of the checkpoint, or None.
        split: train, val or test.
        features: the table of its backbone's features, in features mode.
        device: where to compute.
        source: the checkpoint, for messages.

    Raises:
        UserError: no threshold has the precision that is asked for.
    """
    note = "fitted on val, from the checkpoint"
    if calibration is None:
        calibration, note = _fitted_now(matcher, store, config, features=features, device=device, source=source)
    if calibration is None:
        chosen_calibration(None, config.decode.unmatched, source=source)
        return OutlierFigures(0, 0.0, OFF, {}, f"no figures of keypoints without a partner: {note}")
    unmatched = F1 if config.decode.unmatched == OFF else config.decode.unmatched
    if split == "val":
        note += "; figures on val itself are flattering"
    if config.decode.assignment == "hungarian":  # it matches as many as it can
        note += "; hungarian loses recall where keypoints have no partner (2 to 9 points, measured), argmax does not"
    chosen = calibration.with_threshold(unmatched, source=source)
    stored = protocol_similarities(matcher, store, config, split=split, features=features, device=device, most=PAIRS)
    rows = {name: matches_of(pairs, config.decode) for name, pairs in stored.items()}
    pools = {NOC: Rows.joined([rows[name] for name in FITTED if name != CROSS])}
    if CROSS in rows:
        pools[MIX] = Rows.joined([rows[name] for name in FITTED])
    return OutlierFigures(
        pairs=max(len(pairs.category_P) for pairs in stored.values()),
        threshold=chosen.threshold,
        chosen=chosen.chosen,
        figures={name: _with_all_matched(several, chosen) for name, several in (rows | pools).items()},
        note=note,
    )


def _with_all_matched(rows: Rows, calibration: Calibration) -> dict[str, float]:
    found = figures(rows, calibration)
    everything = figures(rows, dataclasses.replace(calibration, threshold=0.0))
    return found | ({ALL_MATCHED: everything["f1"]} if "f1" in everything else {})


def _fitted_now(
    matcher: Matcher,
    store: ObjectStore,
    config: Config,
    *,
    features: Features | None,
    device: torch.device,
    source: str,
) -> tuple[Calibration | None, str]:
    """Fit a calibration on val; return it, or None, and where it comes from or why there is none."""
    if not config.data.validates:
        return None, (
            "val was trained on (data.train_split), so no confidences could be fitted; train with data.train_split = "
            "train for them"
        )
    try:
        found = fit_on_val(matcher, store, config, features=features, device=device)
    except UserError as error:  # another data set than the one that was trained on may have no val
        return None, str(error)
    if found is None:
        return None, "no keypoint of val is matched"
    return found, f"fitted on val now, for {source} holds none (--resume of its training adds it)"
