"""The names of all files and folders below results/NAME, each spelt once.

nmt.training.files names the files that a training leaves in its own folder (config.json, checkpoint.pt, ...). The
folder of a trial and the folder of a repeated training hold those too.
"""

from __future__ import annotations

from pathlib import Path

from tune.spaces.fidelity import FIDELITIES

SPACE = "search.toml"
"""the TOML file of a search or an ablation, as the user gave it"""
DEFINITION = "search.json"
"""the same with all defaults and --set filled in; a folder that has it holds a search or an ablation"""
STUDY = "study.db"
"""the Optuna study of a search"""
BACKUP = "study.backup.db"
"""a copy of the study, from which --resume restores it"""
DAMAGED = "study.damaged"
"""beginning of the names of studies that were replaced: study.damaged-1.db"""
WARM_START = "warm_start.json"
"""the trials of another search that the sampler of this one knows from the start"""
SUMMARY = "summary.json"
"""one record per ended trial, and the cost"""
BEST_CONFIG = "best.json"
"""the winner's configuration"""
LOG = "search.log"
"""every line that was printed while the search, confirmation or ablation ran, with date and time"""
LOCK = ".lock"
"""locked by the process that works in the folder"""

LOCK_MARKER = ".lock.held"
"""in its stead on a file system without locks, while a process works in the folder"""

TRIALS = "trials"
"""one folder per trial below it, see `trial_folder`"""
SET_ASIDE = "set_aside"
"""folders of trials that a restored study could not take"""
ENDED = "ended.json"
"""how a trial ended, in its folder, once its checkpoints are deleted"""
ERROR = "error.txt"
"""traceback of a trial's last error, in its folder"""

CONFIRM = "confirm"
"""folder of the repeated trainings of the best trials of a search"""
CONFIRMED = "confirm.json"
"""means and differences over the repeated trainings, in that folder"""
FINAL = "final"
"""folder of the winner's and the default's trainings on train and val together, in that of the confirmation"""
ABLATED = "ablation.json"
"""means and differences over the repeated trainings of an ablation"""
RUNS = "runs"
"""one folder per repeated training below it: VARIANT-sSEED"""
TEST = "test.json"
"""accuracy and other measures on the test split, in such a folder"""

PAGE = "report.html"
"""the page of `--report`: one file with all its plots"""
PLOTS = "report"
"""folder of the same plots as PNG files"""
EXPORT = "export"
"""folder of the exported matcher, in that of a search or training"""

RAY = "ray"
"""files that a run needs only while it runs, most of them Ray's; the next run removes them"""
RAY_TUNE = "tune"
"""files of Ray Tune, in that folder"""
RAY_TRAIN = f"{RAY}/train"
"""files of Ray Train"""
MIRROR = f"{RAY}/mirror"
"""copies of the metrics that the driver reads of trials at the storage"""

STATE = "state.json"
"""versions in force of the files of a folder; in each folder at the storage"""
FETCH_LOCK = ".fetch.lock"
"""locked by the process that fetches a folder from the storage"""


def pairs_file(split: str) -> str:
    """Return the file, in a training's folder, of what it got right on each evaluation pair of a split."""
    return f"pairs-{split}.npz"


def figures_file(split: str) -> str:
    """Return the file, in the folder of a repeated training, of its accuracy and other measures on a split."""
    return TEST if split == "test" else f"{split}.json"


def evaluation_file(split: str) -> str:
    """Return the file, in a training's folder, of its accuracy on a split: written with those of other seeds."""
    return f"evaluation-{split}.json"


def seeds_table(split: str) -> str:
    """Return the file with the mean of trainings over seeds, in the folder that holds them."""
    return f"{split}.md"


def trial_id(number: int) -> str:
    """Return the short name of a trial, stable over restarts: its folder's name and its row in the table."""
    return f"{number:03d}"


def trial_folder(number: int) -> str:
    """Return the folder of a trial, relative to the search's."""
    return f"{TRIALS}/{trial_id(number)}"


def run_folder(directory: Path) -> Path:
    """Return the folder of the search or ablation that a training's folder is part of; its own if of none."""
    if directory.parent.name not in (TRIALS, RUNS):
        return directory
    folder = directory.parent.parent
    while folder.name in (CONFIRM, FINAL, *FIDELITIES):
        folder = folder.parent
    return folder


def stays_here(name: str) -> bool:
    """True for files that are never uploaded: hidden ones, sqlite's own, copies of the study, and the report's page."""
    return name == PAGE or name.startswith((".", f"{STUDY}-", BACKUP, DAMAGED))
