"""Pictures as a user has them, rendered: `python -m tests.toy_pictures` writes those of docs/tutorial.md.

toys/images/ and toys/points.csv hold birds and quadrupeds without splits; A.jpg and B.jpg are two more birds, with the
keypoints A.csv and B.csv.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from nmt.data.readers.demo.render import render_object

KINDS = ("bird", "quadruped")
SIZE, SEED = 320, 1


def write_toys(folder: Path, *, each: int = 60) -> None:
    """Write the pictures and tables.

    Args:
        folder: is made.
        each: pictures of each kind.
    """
    images = folder / "toys/images"
    images.mkdir(parents=True)
    rows = ["image,category,keypoint,x,y"]
    for kind in KINDS:
        for number in range(each):
            name = f"{kind}{number + 1}.jpg"
            points = _picture(images / name, kind, number)
            rows += [f"{name},{kind},{keypoint},{x:.0f},{y:.0f}" for keypoint, (x, y) in points.items()]
    (folder / "toys/points.csv").write_text("\n".join(rows) + "\n")
    for number, name in enumerate("AB"):
        points = _picture(folder / f"{name}.jpg", "bird", each + number)
        lines = [f"{keypoint},{x:.0f},{y:.0f}" for keypoint, (x, y) in points.items()]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def _picture(path: Path, kind: str, number: int) -> dict[str, tuple[float, float]]:
    """Render an object into a file; return its keypoints in pixels."""
    rendered = render_object(kind, number, size=SIZE, seed=SEED)
    Image.fromarray(rendered.image).save(path, quality=92)
    return dict(rendered.points)


if __name__ == "__main__":
    write_toys(Path())
