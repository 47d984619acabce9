"""Small raw data sets in the published layouts, made for the tests of the readers."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

from nmt.errors import UserError

CATEGORIES = 20
"""of PascalVOC's split file"""
Points = Mapping[str, tuple[Any, Any]]
SQUARE: Points = {"a": (10, 5), "b": (30, 5), "c": (20, 15)}


@contextlib.contextmanager
def or_one_line() -> Iterator[None]:
    """Lets the block succeed, or raise a UserError of one line."""
    try:
        yield
    except UserError as error:
        if len(str(error).splitlines()) != 1:
            raise AssertionError("more than one line") from error


def write_image(path: Path, size: tuple[int, int] = (40, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(path.name.encode())).integers(
        0, 256, (size[1], size[0], 3), dtype=np.uint8
    )
    Image.fromarray(pixels).save(path)
    return path


def keypoints_xml(points: Points, bounds: Sequence[Any] | None = (0, 0, 40, 20)) -> str:
    """Berkeley's annotation; bounds are xmin, ymin, width, height."""
    box = "" if bounds is None else '<visible_bounds xmin="{}" ymin="{}" width="{}" height="{}"/>'.format(*bounds)
    rows = "".join(f'<keypoint name="{n}" visible="1" x="{x}" y="{y}" z="0"/>' for n, (x, y) in points.items())
    return f'<?xml version="1.0" encoding="utf-8"?><annotation>{box}<keypoints>{rows}</keypoints></annotation>'


class Voc:
    """PascalVOC 2011 with keypoints; objects are added one by one, then `finish` writes the split file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: dict[str, list[str]] = {"train": [], "test": []}
        self.flags: dict[str, list[str]] = {}
        for folder in ("annotations", "VOC2011/Annotations", "VOC2011/JPEGImages"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def add(
        self,
        split: str,
        photo: str,
        *,
        category: str = "cat",
        flag: str = "",
        points: Points = SQUARE,
        bounds: Sequence[Any] | None = (0, 0, 40, 20),
        number: int | None = None,
    ) -> Path:
        """One object; its number is the next of the photograph. Returns its annotation."""
        flags = self.flags.setdefault(photo, [])
        flags.append(f"<object><name>{category}</name>" + (f"<{flag}>1</{flag}>" if flag else "") + "</object>")
        number = len(flags) if number is None else number
        path = self.root / "annotations" / category / f"{photo}_{number}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(keypoints_xml(points, bounds))
        self.names[split].append(f"{category}/{path.name}")
        write_image(self.image(photo))
        return path

    def image(self, photo: str) -> Path:
        return self.root / "VOC2011" / "JPEGImages" / f"{photo}.jpg"

    def fill(self, num: int = 60, **options: Any) -> Voc:
        """`num` train and 4 test photographs."""
        for split, count, first in (("train", num, 0), ("test", 4, 900)):
            for k in range(first, first + count):
                self.add(split, f"2008_000{k:03}", **options)
        return self

    def finish(self) -> Path:
        for photo, flags in self.flags.items():
            xml = f"<annotation>{''.join(flags)}</annotation>"
            (self.root / "VOC2011" / "Annotations" / f"{photo}.xml").write_text(xml)
        write_split_file(self.root / "voc2011_pairs.npz", self.names)
        return self.root


def fit_voc(root: Path, names: Mapping[str, Sequence[str]], split_file: Path) -> Path:
    """Annotations and photographs for the names of a split file: the keypoints are drawn, all photographs are alike.

    Each object has 2 to 12 of its category's 12 keypoints; one photograph in ten has a flagged first object.
    """
    rng = np.random.default_rng(0)
    numbers: dict[str, int] = {}
    for folder in ("annotations", "VOC2011/Annotations", "VOC2011/JPEGImages"):
        (root / folder).mkdir(parents=True)
    for name in itertools.chain.from_iterable(names.values()):
        category, file = name.split("/")
        photo, _, number = file.removesuffix(".xml").rpartition("_")
        numbers[photo] = max(numbers.get(photo, 1), int(number))
        chosen = rng.permutation(12)[: rng.integers(2, 13)].tolist()
        (root / "annotations" / category).mkdir(exist_ok=True)
        points = {f"{category}{k}": (1 + 3 * k, 1 + k) for k in chosen}
        (root / "annotations" / category / file).write_text(keypoints_xml(points))
    image = write_image(root / "image.jpg")
    for photo, number in numbers.items():
        first = "<object><difficult>1</difficult></object>" if rng.random() < 0.1 else "<object/>"
        xml = f"<annotation>{first}{'<object/>' * (number - 1)}</annotation>"
        (root / "VOC2011" / "Annotations" / f"{photo}.xml").write_text(xml)
        os.link(image, root / "VOC2011" / "JPEGImages" / f"{photo}.jpg")
    shutil.copyfile(split_file, root / "voc2011_pairs.npz")
    return root


def write_split_file(path: Path, names: Mapping[str, Sequence[str]]) -> None:
    """One list of names a category, as an array of objects."""
    arrays = {}
    for split, of_split in names.items():
        arrays[split] = np.empty(CATEGORIES, object)
        for k in range(CATEGORIES):
            arrays[split][k] = list(of_split) if k == 7 else []
    np.savez(path, **arrays)


def spair_pair(root: Path, split: str, folder: str, images: Sequence[str], **changes: Any) -> Path:
    """One pair in the large layout; points are SQUARE's under the ids 0, 1, 2."""
    stems = [Path(image).stem for image in images]
    layout = root / "Layout" / "large" / f"{split}.txt"
    layout.parent.mkdir(parents=True, exist_ok=True)
    number = len(layout.read_text().split()) if layout.exists() else 0
    name = f"{number:06}-{stems[0]}-{stems[1]}:{folder}"
    content: dict[str, Any] = {"src_imname": images[0], "trg_imname": images[1], "category": folder}
    content |= {"src_kps": list(SQUARE.values()), "trg_kps": list(SQUARE.values()), "kps_ids": ["0", "1", "2"]}
    content |= dict.fromkeys(("mirror", "viewpoint_variation", "scale_variation", "truncation", "occlusion"), 0)
    path = root / "PairAnnotation" / split / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | changes))
    with layout.open("a") as file:
        file.write(name + "\n")
    for image in images:
        if not (target := root / "JPEGImages" / folder / image).exists():
            write_image(target)
    return path


def make_spair(root: Path) -> Path:
    """Three images of two categories a split, every ordered pair of them."""
    for split in ("trn", "val", "test"):
        for category in ("bus", "cow"):
            images = [f"{split}{k}.jpg" for k in range(3)]
            for pair in ((a, b) for a in images for b in images if a != b):
                spair_pair(root, split, category, pair)
        small = root / "Layout" / "small" / f"{split}.txt"
        small.parent.mkdir(exist_ok=True)
        small.write_text("\n".join((root / "Layout" / "large" / f"{split}.txt").read_text().split()[::5]))
    return root


def make_spair_u(root: Path) -> Path:
    """SPair-U of `make_spair`: its test pairs with one keypoint more, moved ones, and the images of SPair-71k."""
    spair = make_spair(root / "SPair-71k")
    unseen = root / "SPair-U"
    shutil.copytree(spair / "PairAnnotation" / "test", unseen / "PairAnnotation" / "test")
    for file in (unseen / "PairAnnotation" / "test").iterdir():
        points = [[15, 8], [25, 8], [20, 12], [5, 5]]
        new = {"src_kps": points, "trg_kps": points, "kps_ids": ["0", "1", "2", "3"]}
        file.write_text(json.dumps(json.loads(file.read_text()) | new))
    (unseen / "JPEGImages").symlink_to(spair / "JPEGImages")
    return unseen


def write_csv(root: Path, rows: Iterable[Sequence[Any]], columns: str = "image,category,keypoint,x,y") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "points.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns.split(","), *rows])
    return path


def csv_rows(image: str, category: str = "bird", points: Points = SQUARE, *more: Any) -> list[tuple[Any, ...]]:
    return [(image, category, name, x, y, *more) for name, (x, y) in points.items()]


def coco(num: int = 40) -> dict[str, Any]:
    """COCO keypoints of `num` images 0.jpg, 1.jpg, ... with one person each."""
    flat = [value for x, y in SQUARE.values() for value in (x, y, 2)]
    return {
        "categories": [{"id": 1, "name": "person", "keypoints": list(SQUARE)}],
        "images": [{"id": k, "file_name": f"{k}.jpg", "width": 40, "height": 20} for k in range(num)],
        "annotations": [
            {"id": 100 + k, "image_id": k, "category_id": 1, "keypoints": list(flat), "bbox": [0, 0, 40, 20]}
            for k in range(num)
        ],
    }


def make_willow(root: Path, num: int = 12) -> Path:
    """Photographs of one category, 40 x 20 pixels, keypoint k at (3 k + 2, k + 1)."""
    folder = root / "WILLOW-ObjectClass" / "Car"
    folder.mkdir(parents=True)
    for k in range(num):
        Image.fromarray(np.full((20, 40, 3), 10 * k, np.uint8)).save(folder / f"car_{k:02}.png")
        points = np.array([(3 * j + 2, j + 1) for j in range(10)], float).T
        scipy.io.savemat(folder / f"car_{k:02}.mat", {"pts_coord": points})
    return folder.parent


PF_PAIRS = {
    "trn": ["a.jpg,b.jpg,3,0", "b.jpg,a.jpg,3,1", "a.jpg,b.jpg,3,1", "a.jpg,v.jpg,3,0", "c.jpg,d.jpg,8,0"],
    "val": ["v.jpg,w.jpg,3,0", "v.jpg,t.jpg,3,0"],
    "test": ["t.jpg,u.jpg,3,1;2,3;4,5;6,7;8"],
}
"""list of PF-PASCAL -> rows, whose images are in JPEGImages; class 3 is bird, 8 is cat"""


def make_pf_pascal(raw: Path) -> Path:
    """Eight images; the five birds have keypoints 0, 1 and 2 of four, the cats 1 and 3. Trn and val share images."""
    root = raw / "PF-dataset-PASCAL"
    for category, names, absent in (("bird", "abvwtu", [3]), ("cat", "cd", [0, 2])):
        (root / "Annotations" / category).mkdir(parents=True)
        for name in names:
            kps = np.array([(10.0, 5.0), (30.0, 5.0), (20.0, 15.0), (25.0, 10.0)])
            kps[absent] = np.nan
            bbox = np.array([[0, 0, 40, 20]])
            scipy.io.savemat(root / "Annotations" / category / f"{name}.mat", {"kps": kps, "bbox": bbox})
            write_image(root / "JPEGImages" / f"{name}.jpg")
    for split, rows in PF_PAIRS.items():
        header = "source_image,target_image,class," + ("XA,YA,XB,YB" if split == "test" else "flip")
        lines = [
            ",".join(f"{root.name}/JPEGImages/{c}" if c.endswith("jpg") else c for c in r.split(",")) for r in rows
        ]
        (raw / f"{split}_pairs.csv").write_text("\n".join([header, *lines]))
    return raw


def make_pf_willow(raw: Path, num: int = 3) -> Path:
    """Images of two categories, 40 x 20 pixels, keypoint k at (3 k + 2, k + 1), and every ordered pair of them."""
    root = raw / "PF-dataset"
    header = [f"image{side}" for side in "AB"] + [f"{c}{side}{k}" for side in "AB" for c in "XY" for k in range(1, 11)]
    rows = [header]
    points = [3 * k + 2 for k in range(10)] + [k + 1 for k in range(10)]
    for category in ("car(G)", "duck(S)"):
        names = [f"{root.name}/{category}/{k:03}.png" for k in range(num)]
        for name in names:
            write_image(raw / name)
        rows += [[a, b, *map(str, points * 2)] for a in names for b in names if a != b]
    (root / "test_pairs_pf.csv").write_text("\n".join(map(",".join, rows)))
    return raw


ANIMALS = {"Felidae": ("cat", "lynx"), "Canidae": ("fox",)}
"""families of AP-10K and their species"""


def make_ap10k(root: Path) -> Path:
    """Three images a species and split: keypoint k at (2 k + 1, k + 1); those from 12 on are not labelled."""
    pairs: dict[str, list[tuple[Path, Path, str]]] = {}
    for number, split in enumerate(("trn", "val", "test")):
        of_family: dict[str, list[list[Path]]] = {}
        for family, kinds in ANIMALS.items():
            for species in kinds:
                first = 100 * number + 10 * [*ANIMALS["Felidae"], "fox"].index(species)
                files = [_animal(root, family, species, f"{first + k:012}") for k in range(3)]
                of_family.setdefault(family, []).append(files)
                pairs.setdefault(split, []).extend((a, b, species) for a, b in itertools.combinations(files, 2))
        if split != "trn":
            cats, lynxes = of_family["Felidae"]
            pairs[f"{split}_cross_species"] = [(a, b, "Felidae") for a, b in zip(cats, lynxes, strict=True)]
            pairs[f"{split}_cross_family"] = [(a, of_family["Canidae"][0][0], "all") for a in cats]
    for folder, of_folder in pairs.items():
        (root / "PairAnnotation" / folder).mkdir(parents=True)
        for source, target, group in of_folder:
            name = f"{source.stem}-{target.stem}:{group}.json"
            paths = {f"{side}_json_path": f"data/{path}" for side, path in (("src", source), ("trg", target))}
            (root / "PairAnnotation" / folder / name).write_text(json.dumps(paths))
    return root


def _animal(root: Path, family: str, species: str, name: str) -> Path:
    """One annotation with its image; returns its path from the parent of the data set."""
    write_image(root / "JPEGImages" / family / species / f"{name}.jpg")
    keypoints = [value for k in range(17) for value in ((2 * k + 1, k + 1, 2) if k < 12 else (0, 0, 0))]
    content = {"id": int(name), "width": 40, "height": 20, "bbox": [0, 0, 40, 20], "keypoints": keypoints}
    file = root / "ImageAnnotation" / family / species / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**content, "name": species, "supercategory": family, "num_keypoints": 12}))
    return file.relative_to(root.parent)
