"""The names of all files and folders below results/NAME, each spelt once.

What a training leaves in its own folder (config.json, checkpoint.pt, ...) is named in nmt.training.files: a trial's
folder and a repeated training's folder hold those too.
"""

from __future__ import annotations

SPACE = "search.toml"
"""the TOML file as the user gave it: of a search or of an ablation"""
DEFINITION = "search.json"
"""the same with all defaults and --set filled in; a folder that has it holds a search or an ablation"""
STUDY = "study.db"
"""the Optuna study of a search"""
WARM_START = "warm_start.json"
"""the trials of another search that this one started from"""
SUMMARY = "summary.json"
"""one record per ended trial, and the cost"""
BEST_CONFIG = "best.json"
"""the winner's configuration"""
LOG = "search.log"
"""every line that was printed while the search, confirmation or ablation ran, with date and time"""
LOCK = ".lock"
"""held by the process that works in the folder"""

TRIALS = "trials"
"""one folder per trial below it, see `trial_folder`"""
ERROR = "error.txt"
"""in a trial's folder: the traceback of its last error"""

CONFIRM = "confirm"
"""folder of the repeated trainings of a search's best trials"""
CONFIRMED = "confirm.json"
"""in that folder: what they show"""
ABLATED = "ablation.json"
"""what the repeated trainings of an ablation show"""
RUNS = "runs"
"""one folder per repeated training below it: VARIANT-sSEED"""
TEST = "test.json"
"""in such a folder: the accuracy on the test split"""

RAY = "ray"
"""what a run needs only while it runs, above all Ray's own files; removed by the next"""
RAY_TUNE = "tune"
"""in that folder: Ray Tune's"""
RAY_TRAIN = f"{RAY}/train"
"""Ray Train's"""
MIRROR = f"{RAY}/mirror"
"""what the driver reads of trials whose folders are at the storage"""

STATE = "state.json"
"""at the storage, in each folder: which versions of its files are in force"""
FETCH_LOCK = ".fetch.lock"
"""held by the process that fetches a folder from the storage"""
EVENTS = "events.out.tfevents."
"""how TensorBoard's event files begin"""


def trial_id(number: int) -> str:
    """Return the short name of a trial, stable over restarts: its folder's name and its row in the table."""
    return f"{number:03d}"


def trial_folder(number: int) -> str:
    """Return the folder of a trial, relative to the search's."""
    return f"{TRIALS}/{trial_id(number)}"
