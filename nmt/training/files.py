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
TABLE = "metrics.csv"
"""the same as a table, from the logger csv"""
EVENTS = "events.out.tfevents."
"""prefix of the names of TensorBoard's event files"""
HOSTS = "hosts.json"
"""hosts of the data-parallel workers that trained, from which step on"""
MLFLOW_STORE = "mlruns"
"""folder of the logger mlflow, in the folder of the search or of the training"""


def logger_file(name: str) -> str:
    """Return the file with the id that a training has at the service of a logger."""
    return f"logger_{name}.json"
