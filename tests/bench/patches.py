"""A task that is not matching: a small network names the keypoint at the middle of a patch of a photograph.

Its hyperparameters are keys of a configuration, so that a search of the project can ask for them: `model.d_model` is
its width, `model.drop_path` its dropout, `data.scale` the noise on its input, `loss.temperature` that of its softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nmt.config import Config
from nmt.data.store.objects import ObjectStore
from nmt.training.schedule import learning_rate_factor

SIDE, EVERY = 24, 2
"""pixels of a patch's side, and every how many of them are seen"""
BATCH, MOST_TRAIN, MOST_VAL = 100, 2000, 1500


@dataclass(frozen=True)
class Patches:
    """Grey patches (P, D) and the number of the keypoint at the middle of each (P,)."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    classes: int

    @classmethod
    def of(cls, data: Path) -> Patches:
        """The patches around the keypoints of a prepared data set."""
        store = ObjectStore.open(data)
        names = [(c, k) for c, several in enumerate(store.info.keypoint_names.values()) for k in range(len(several))]
        number = {name: n for n, name in enumerate(names)}
        train, val = (_patches(store, split, number) for split in ("train", "val"))
        chosen = [
            np.random.default_rng(0).permutation(len(x))[:most]
            for (x, _), most in zip((train, val), (MOST_TRAIN, MOST_VAL), strict=True)
        ]
        mean, spread = train[0].mean(), train[0].std()
        (x0, y0), (x1, y1) = (((x[c] - mean) / spread, y[c]) for (x, y), c in zip((train, val), chosen, strict=True))
        return cls((x0, y0), (x1, y1), len(number))


def _patches(store: ObjectStore, split: str, number: dict[tuple[int, int], int]) -> tuple[Tensor, Tensor]:
    seen, named = [], []
    for row in np.concatenate(store.rows(split)):
        grey = np.pad(store.image(row).mean(-1), SIDE // 2, mode="edge")
        for keypoint, (x, y) in zip(store.keypoints(row), store.points(row), strict=True):
            top, left = int(y), int(x)
            patch = grey[top : top + SIDE : EVERY, left : left + SIDE : EVERY]
            if patch.shape == (SIDE // EVERY, SIDE // EVERY):
                seen.append(patch.ravel())
                named.append(number[int(store.category[row]), int(keypoint)])
    return torch.tensor(np.stack(seen), dtype=torch.float32), torch.tensor(named)


def train_network(config: Config, patches: Patches, seed: int) -> list[float]:
    """Accuracy on val after each epoch; 0 after a loss that is not finite."""
    torch.manual_seed(seed)
    (x, y), (x_val, y_val) = patches.train, patches.val
    width, epochs = config.model.d_model, config.train.epochs
    model = nn.Sequential(
        nn.Linear(x.shape[1], width), nn.ReLU(), nn.Dropout(config.model.drop_path), nn.Linear(width, patches.classes)
    )
    optim = config.optim
    optimizer = torch.optim.AdamW(model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
    steps, curve = config.train.steps_per_epoch, list[float]()
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(x))
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            noisy = x[chosen] + config.data.scale * torch.randn(len(chosen), x.shape[1])
            loss = functional.cross_entropy(model(noisy) / config.loss.temperature, y[chosen])
            if not loss.isfinite():
                return curve + [0.0] * (epochs - len(curve))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm)
            optimizer.param_groups[0]["lr"] = optim.lr * learning_rate_factor(config, (epoch * steps) + step)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            curve.append(float((model(x_val).argmax(1) == y_val).float().mean()))
    return curve
