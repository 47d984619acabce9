from __future__ import annotations

from nmt.inference.evaluate import evaluate_checkpoint


def test_evaluation_stands_beside_the_baselines(trained, toy_data):
    result = evaluate_checkpoint(trained / "best.pt", data=toy_data, split="test")
    assert result.mean["NMT"] > result.mean["positions"]
    assert 0.1 < result.mean["chance"] < 0.2  # 6 to 10 keypoints a pair
    assert "mean" in result.table() and "chair" in result.table()
