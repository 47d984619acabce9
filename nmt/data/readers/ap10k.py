"""Reader of the pairs of AP-10K (Yu et al., NeurIPS 2021) that GeoAware-SC (Zhang et al., CVPR 2024) made of it.

Below ap-10k, PairAnnotation/SPLIT/A-B:GROUP.json names two files of ImageAnnotation/FAMILY/SPECIES/IMAGE.json. Each is
a COCO annotation of one animal with the size of its image, JPEGImages/FAMILY/SPECIES/IMAGE.jpg. Whole images are used.

A benchmark pairs animals of one species, of two species of a family, or of two families. A pair joins two objects of
one category, so the category is the species, the family, or `all`. Only the first has pairs to train on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nmt.data.readers.base import REMEDY, Entry, RawListing, box_if_any, points_within
from nmt.data.readers.listed_pairs import ListedPairs
from nmt.data.readers.values import as_dict, as_list, as_name, as_number, as_size
from nmt.errors import UserError
from nmt.io.user_files import is_file, is_folder, read_json, shown, visible_files

KEYPOINTS = (
    *("L_Eye", "R_Eye", "Nose", "Neck", "Root of tail"),
    *("L_Shoulder", "L_Elbow", "L_F_Paw", "R_Shoulder", "R_Elbow", "R_F_Paw"),
    *("L_Hip", "L_Knee", "L_B_Paw", "R_Hip", "R_Knee", "R_B_Paw"),
)
"""names in the order of the annotations"""
ALL = "all"


@dataclass(frozen=True)
class Benchmark:
    """Which pairs of AP-10K are read."""

    splits: dict[str, str]
    """our split -> folder below PairAnnotation; an image in several goes to the first"""
    level: int | None
    """what the category is: part of FAMILY/SPECIES; None: one category of all animals"""


BENCHMARKS = {
    "ap10k": Benchmark({"test": "test", "val": "val", "train": "trn"}, 1),
    "ap10k_cross_species": Benchmark({"test": "test_cross_species", "val": "val_cross_species"}, 0),
    "ap10k_cross_family": Benchmark({"test": "test_cross_family", "val": "val_cross_family"}, None),
}
"""data.name -> benchmark"""


def read(raw: Path, benchmark: Benchmark, *, skip_bad: bool) -> RawListing:
    """List the pairs of a benchmark and the images they join.

    Args:
        raw: the folder ap-10k, or its parent.
        skip_bad: leave damaged pairs out instead of raising UserError.

    Raises:
        UserError: not AP-10K with pairs, damage (without `skip_bad`), or no pair is left.
    """
    root, listing, pairs = _find(raw, benchmark), RawListing(), ListedPairs()
    known: dict[tuple[str, ...], Entry] = {}
    for split, file in _pair_files(root, benchmark):
        with listing.leaving_out(skip_bad=skip_bad):
            content = as_dict(read_json(file), f"{file}: the pair")
            named = [(split, *_image_of(content.get(f"{side}_json_path"), file, side)) for side in ("src", "trg")]
            for key in named:
                if key not in known:
                    known[key] = _entry(root, benchmark, *key, listing, file)
            listing.files.append(file)
            pairs.add(*(known[key] for key in named))
    pairs.put_into(listing)
    if not listing.pairs:
        raise UserError(f"{root}: no pair is left in {', '.join(benchmark.splits.values())}{listing.why_few()}")
    listing.refuse_shares(root)
    listing.mirror = {category: _mirrored(names) for category, names in listing.keypoint_names().items()}
    return listing


def _find(raw: Path, benchmark: Benchmark) -> Path:
    """Return the folder ap-10k. Raises UserError."""
    folders = list(benchmark.splits.values())
    for root in (raw, raw / "ap-10k"):
        if is_folder(root / "ImageAnnotation") and all(is_folder(root / "PairAnnotation" / name) for name in folders):
            return root
    state = "not AP-10K with pairs" if is_folder(raw) else "does not exist"
    looked = ", ".join(f"PairAnnotation/{name}" for name in folders)
    raise UserError(
        f"{raw}: {state}; looked for {looked} and ImageAnnotation/FAMILY/SPECIES, in it and in ap-10k below; "
        "GeoAware-SC's notebook prepare_ap10k.ipynb makes them"
    )


def _pair_files(root: Path, benchmark: Benchmark) -> Iterator[tuple[str, Path]]:
    """Yield (split, annotation of a pair), by split and name."""
    for split, folder in benchmark.splits.items():
        yield from ((split, file) for file in visible_files(root / "PairAnnotation" / folder, "*.json"))


def _image_of(value: object, file: Path, side: str) -> tuple[str, str, str]:
    """Return family, species and image of .../ImageAnnotation/FAMILY/SPECIES/IMAGE.json. Raises UserError."""
    where = f"{file}: {side}_json_path"
    path = PurePosixPath(value.replace("\\", "/") if isinstance(value, str) else "")
    if len(path.parts) < 4 or path.parts[-4] != "ImageAnnotation" or path.suffix != ".json":
        raise UserError(f"{where} must be .../ImageAnnotation/FAMILY/SPECIES/IMAGE.json, but is {shown(value)}")
    family, species, image = (as_name(part, where) for part in (*path.parts[-3:-1], path.stem))
    return family, species, image


def _entry(
    root: Path, benchmark: Benchmark, split: str, family: str, species: str, name: str, listing: RawListing, pair: Path
) -> Entry:
    """Read the animal in an image. Raises UserError."""
    annotation = root / "ImageAnnotation" / family / species / f"{name}.json"
    image = root / "JPEGImages" / family / species / f"{name}.jpg"
    for file in (annotation, image):
        if not is_file(file):
            raise UserError(f"{pair}: its file {file} does not exist; {REMEDY}")
    content = as_dict(read_json(annotation), f"{annotation}: the annotation")
    where = f"{annotation}: keypoints"
    numbers = [as_number(k, where) for k in as_list(content.get("keypoints"), where, length=3 * len(KEYPOINTS))]
    triples = zip(KEYPOINTS, numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    points = points_within({name: (x, y) for name, x, y, visible in triples if visible > 0}, None, listing.left_out)
    listing.files.append(annotation)
    category = ALL if benchmark.level is None else (family, species)[benchmark.level]
    size = as_size(content.get("width"), content.get("height"))
    box = box_if_any(content.get("bbox"), corners=False)
    return Entry(f"{category}/{name}", category, split, name, image, points, size=size, object_box=box)


def _mirrored(names: list[str]) -> dict[str, str]:
    """Return keypoint -> its name in the mirrored image, where an animal of the category has both."""
    other = {name: {"L": "R", "R": "L"}[name[0]] + name[1:] for name in names if name[1] == "_"}
    return {name: swapped for name, swapped in other.items() if swapped in other}
