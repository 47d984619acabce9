"""Ray Data and one process make the same bytes. In a process of its own: Ray is started with two CPUs and ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nmt.config import Config, ModelConfig, with_overrides
from nmt.data.prepare.features import add_features
from nmt.data.prepare.objects import prepare
from nmt.data.store.features import ViewOptions

MODEL = ModelConfig(backbone="tf_efficientnet_lite0", weights="random")
VIEWS = ViewOptions(2, (0.3, 0.3, 0.3, 30.0, 0.5, 0.2))
SCRIPT = """
import sys
from pathlib import Path
import ray
from nmt.config import Config, ModelConfig, with_overrides
from nmt.data.prepare.features import add_features
from nmt.data.prepare.objects import prepare
from nmt.data.store.features import ViewOptions
from nmt.errors import UserError
from tune.prepare_data import ray_features, ray_shards

raw, out, bad = map(Path, sys.argv[1:])
config = with_overrides(Config(), {"data.name": "willow", "data.image_size": 64}, source="-")
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
prepare(config, raw=raw, out=out, make=ray_shards)
model = ModelConfig(backbone="tf_efficientnet_lite0", weights="random")
for views in (ViewOptions(), ViewOptions(2, (0.3, 0.3, 0.3, 30.0, 0.5, 0.2))):
    add_features(out, model, views=views, make=ray_features)
try:
    prepare(config, raw=bad, out=out.with_name("bad"), make=ray_shards)
except UserError as error:
    print(error)
ray.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_makes_the_bytes_of_one_process(tmp_path: Path, shared_data: Path) -> None:
    raw, bad = shared_data / "willow", tmp_path / "raw"
    for source in raw.glob("*/*/*"):
        target = bad / source.relative_to(raw)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"" if source.name == "060_0000.png" else source.read_bytes())
    arguments = [sys.executable, "-c", SCRIPT, raw, tmp_path / "ray", bad]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "060_0000.png: not a readable image" in done.stdout and done.stdout.count("\n") == 1
    config = with_overrides(Config(), {"data.name": "willow", "data.image_size": 64}, source="-")
    prepare(config, raw=raw, out=tmp_path / "alone")
    for views in (ViewOptions(), VIEWS):
        add_features(tmp_path / "alone", MODEL, views=views)
    files = [path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.*")]
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "alone" / file).read_bytes() == (tmp_path / "ray" / file).read_bytes(), file
