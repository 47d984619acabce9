"""The `data` branch of the configuration: the data set, the pairs drawn from it, and their augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from nmt.settings import setting


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data set, the pairs drawn from it, and the augmentation of its images."""

    name: str = setting(
        "voc",
        "name of the data set, as given to --prepare; it lies in data/NAME unless --data is given; in a TOML file that "
        "sets none, the name of the file",
    )
    mode: str = setting(
        "images",
        "what a training reads: images trains backbone and head end to end; features trains the head alone on stored "
        "backbone features",
        choices=("features", "images"),
    )
    image_size: int = setting(384, "side of the square input image in pixels", low=32, high=2048)
    pairs_per_step: int = setting(8, "image pairs in one optimizer step, summed over all workers", low=1)
    eval_pairs: int = setting(
        1000, "image pairs drawn per category for validation and test; data sets with given pairs use those", low=1
    )
    train_split: str = setting(
        "train",
        "objects that a training sees: train keeps val to choose the best epoch by; train+val, for a final training, "
        "leaves nothing to validate with, so the weights of the last epoch count",
        choices=("train", "train+val"),
    )
    redraw: str = setting(
        "category",
        "what is drawn again where two objects share fewer than 2 keypoints: category draws the category too, as "
        "published, so one with few pairs gets fewer steps; objects keeps it, so all get as many; no effect on given "
        "pairs",
        choices=("category", "objects"),
    )
    pairs: str = setting(
        "intersection",
        "keypoints that a pair shows, in training and evaluation: intersection those that both objects have, as "
        "published; union all of either, so that some have no partner",
        choices=("intersection", "union"),
    )
    outliers: float = setting(
        0.0,
        "probability that a training pair loses keypoints of each side, so that their partners have none: a share "
        "drawn from 0 to half of them; 0 turns it off",
        low=0,
        high=1,
    )
    cross: float = setting(
        0.0,
        "share of training pairs that join objects of two categories, so that nothing matches; needs loss.unmatched = "
        "dustbin; 0 turns it off",
        low=0,
        high=1,
    )
    outliers_from: int = setting(
        -1,
        "epochs after which data.outliers and data.cross begin; -1: at the first of optim.milestones, so that the rate "
        "is low by then; from the start (0) they cost 6 to 18 points of accuracy",
        low=-1,
    )
    erasing: float = setting(
        0.3,
        "probability that one or two random rectangles of a source image are erased, with the keypoints in them; 0 "
        "turns it off",
        low=0,
        high=1,
    )
    cutmix: float = setting(
        0.3,
        "probability that a square of a source image is replaced by another image (CutMix), and the keypoints in it "
        "dropped; 0 turns it off",
        low=0,
        high=1,
    )
    mixup: float = setting(
        0.3, "probability that a training image is blended with another image (MixUp); 0 turns it off", low=0, high=1
    )
    mix_partner: str = setting(
        "photographs",
        "what CutMix and MixUp mix in, both of train: photographs are whole, as published, and lie beside objects that "
        "are cut out of them once --prepare has stored them; objects are cut out; no effect on stored features",
        choices=("photographs", "objects"),
    )
    rotation: float = setting(
        0.0,
        "largest random rotation of a training image in degrees, in either direction; 0 turns it off",
        low=0,
        high=180,
    )
    mirror: float = setting(0.0, "probability that a training image is mirrored; 0 turns it off", low=0, high=1)
    scale: float = setting(
        0.0,
        "largest random change of a training image's size; 0.2 scales it by 0.8 to 1.2, 0 turns it off",
        low=0,
        high=0.9,
    )
    views: int = setting(
        1,
        "stored views of each object in features mode; 1 stores the plain image alone, K adds K - 1 augmented views",
        low=1,
        high=1000,
    )
    pad_keypoints: int = setting(
        0, "number of keypoints that every batch is padded to, for static shapes; 0 pads to the longest image", low=0
    )

    @property
    def validates(self) -> bool:
        """True if val is kept to validate with; False if it is trained on."""
        return self.train_split == "train"
