"""The official COCO folder as it is downloaded: prepared, inspected, trained and matched with the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import run
from nmt.data.store.objects import ObjectStore
from tests.paths import SHARED

MINI = SHARED / "data" / "coco_mini"
SMALL = ("train.epochs=2", "train.steps_per_epoch=3", "data.eval_pairs=20", "optim.milestones=[1]")


def keypoints_of(image: str) -> dict[str, list[float]]:
    """The labelled keypoints of the largest person in a photograph."""
    content = json.loads((MINI / "annotations" / "person_keypoints_val2017.json").read_text())
    number = next(found["id"] for found in content["images"] if found["file_name"] == image)
    people = [found for found in content["annotations"] if found["image_id"] == number and found["num_keypoints"] > 3]
    flat = max(people, key=lambda found: found["area"])["keypoints"]
    names = content["categories"][0]["keypoints"]
    return {name: flat[3 * k : 3 * k + 2] for k, name in enumerate(names) if flat[3 * k + 2]}


@pytest.mark.slow
@pytest.mark.skipif(not MINI.is_dir(), reason="needs shared/data")
def test_the_official_folder_is_prepared_inspected_trained_and_matched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run.main(["--prepare", "people", "--raw", str(MINI)]) == 0
    printed = capsys.readouterr()
    counts = ObjectStore.open(tmp_path / "data" / "people").info.counts
    assert {split: of_split["person"] for split, of_split in counts.items()} == {"train": 82, "val": 64, "test": 0}
    assert "6 crowds" in printed.out and "read as COCO keypoints" in printed.out
    assert "train from annotations/person_keypoints_train2017.json" in printed.out

    assert run.main(["--inspect", "people"]) == 0
    assert "Note: read as COCO keypoints: annotations/" in Path("results/people-inspect.html").read_text()
    assert run.main(["--train", "people", *(word for key in SMALL for word in ("--set", key))]) == 0
    images = [MINI / "val2017" / name for name in ("000000136334.jpg", "000000153797.jpg")]
    for k, image in enumerate(images):
        Path(f"{k}.json").write_text(json.dumps(keypoints_of(image.name)))
    capsys.readouterr()
    match = ["--match", "people-train", "--images", *map(str, images), "--keypoints", "0.json", "1.json", "--json"]
    assert run.main(match) == 0
    matches = json.loads(capsys.readouterr().out.splitlines()[-1])["matches"]
    assert set(matches) == set(keypoints_of(images[0].name))
    assert set(matches.values()) <= {*keypoints_of(images[1].name), None} and Path("match.png").is_file()
