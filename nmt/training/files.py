"""The names of the files that a training leaves in its folder, each spelt once. Imports nothing."""

from __future__ import annotations

CONFIG = "config.json"
"""the whole configuration"""
DATA_SET = "data_set.json"
"""identity of the data set that it trains on"""
CHECKPOINT = "checkpoint.pt"
"""the state to resume from, at an exact step"""
PREVIOUS = "checkpoint.previous.pt"
"""the state saved before it, for the case that the checkpoint is damaged"""
BEST = "best.pt"
"""the weights of the epoch with the highest validation accuracy"""
METRICS = "metrics.jsonl"
"""one line per completed epoch"""
HOSTS = "hosts.json"
"""hosts of the data-parallel workers that trained, from which step on"""
