"""The command line as its users meet it: one line and exit 2 for their mistakes, and nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.errors import FailedError
from tests.paths import ROOT
from tune.cli import search
from tune.cli.job import given_flags, parse
from tune.cli.main import CLOSED_PIPE, JOBS, check_flags, find_job, main, run_job

READS = {
    "--prepare": "--raw --data --set --seed --features --views --coding --skip-bad --difficulty "
    "--clip-to-box --ray --check --json",
    "--download": "--raw --json",
    "--inspect": "--data --set --results --seed --json",
    "--init": "--data --json",
    "--train": "--data --set --seed --workers --results --storage --resume --dry-run --card --json",
    "--search": "--data --set --trials --seeds --seed --workers --results --storage --resume --dry-run --card --json",
    "--confirm": "--top --seeds --final --seed --data --set --results --storage --json",
    "--evaluate": "--split --dense --data --set --results --storage --json",
    "--report": "--results --storage --json",
    "--match": "--images --keypoints --pairs --out --set --results --storage --json",
    "--serve": "--port --host --token --open --data --set --results --storage --json",
    "--export": "--format --out --hub --results --storage --json",
    "--keys": "--json",
    "--completion": "--json",
}
"""job -> the flags it reads"""
FLAGS = sorted({flag for flags in READS.values() for flag in flags.split()})
IGNORED = [(job, flag) for job in READS for flag in FLAGS if flag not in READS[job].split()]

HEAVY = ("torch", "ray", "optuna", "numpy", "pyarrow")


def test_the_version_is_one_line(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"nmt (\d+\.\d+\.\d+|\(a checkout that is not installed\))\n", capsys.readouterr().out)


def test_each_job_reads_the_flags_of_the_table():
    assert {flag: set(job.reads) for flag, job in JOBS.items()} == {j: set(f.split()) for j, f in READS.items()}


@pytest.mark.parametrize(("job", "flag"), IGNORED)
def test_a_flag_of_other_jobs_is_refused_and_they_are_named(refused, job, flag):
    readers = [name for name, flags in READS.items() if flag in flags.split()]
    line = refused(job, "demo", flag, "1")
    assert line.startswith(f"run.py: {flag} is read by --") and line.endswith(f"; {job} does not take it\n")
    assert set(re.findall(r"--[a-z-]+", line)) == {flag, job, *readers}
    assert refused(flag, "1", job, "demo") == line == refused(f"{flag}=1", f"{job}=demo")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no job is given; add one of --prepare, --download"),
        ("demo", "no job is given"),
        ("search demo", "'search' is no job; did you mean '--search'?"),
        ("--serch demo", "unknown flag --serch; did you mean '--search'?"),
        ("--search demo --train demo", "--search and --train are 2 jobs; ask for one at a time; see run.py --help"),
        ("--search demo --trial 3", "unknown flag --trial; did you mean '--trials'? See run.py --search --help"),
        ("--search demo --res", "unknown flag --res"),
        ("--search demo -n 3", "unknown flag -n"),
        ("--search", "--search needs one value; see run.py --search --help"),
        ("--search --trials 3", "--search needs one value"),
        ("--search demo --trials", "--trials needs one value"),
        ("--search demo --trials many", "--trials must be a whole number, but got 'many'; see run.py --search --help"),
        ("--search demo --trials 0", "--trials must be at least 1, but got 0"),
        ("--search demo --seed -1", "--seed must be at least 0, but got -1"),
        ("--search demo --resume=yes", "--resume takes no value"),
        ("--search demo more", "unexpected argument 'more'"),
        ("--evaluate demo --split train", "--split must be val or test, but got 'train'"),
        ("--prepare demo --coding png", "--coding must be raw or jpeg, but got 'png'"),
        ("--match demo --images a --keypoints a b", "--images needs 2 values"),
        ("--train demo --workers 2:", "--workers 2:: expected a number of workers, or FEWEST:MOST"),
        ("--train demo --workers 4:2", "--workers 4:2: workers must be at least 1, fewest before most"),
        ("--train demo --workers 99", "--workers 99: more than data.pairs_per_step = "),
        ("--search demo --workers 2:", "--workers 2:: expected a number of workers, or FEWEST:MOST"),
        ("--search demo --workers 0", "--workers 0: workers must be at least 1, fewest before most"),
        (
            "--search demo --workers 2:99",
            "--workers 2:99: [resources] workers = 99 is more than data.pairs_per_step = ",
        ),
    ],
)
def test_a_misspelt_command_is_one_line_with_the_way_out(refused, arguments, message):
    assert message in refused(*arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--search", "willlow"], "did you mean 'willow'?"),
        (["--train", "demoo"], "did you mean 'demo'?"),
        (["--prepare", "imagenet"], "known: ap10k, ap10k_cross_family, "),
        (["--prepare", "imagenet"], "pictures of your own need no recipe: python run.py --prepare imagenet --raw DIR"),
        (["--train", "birds"], "pictures of your own need no recipe: python run.py --prepare birds --raw DIR"),
        (["--search", "birds"], "to search, write one with --init birds"),
        (["--prepare", "my birds", "--raw", "x"], "letters, digits, _ and -, such as my_birds"),
        (["--init", "my birds"], "letters, digits, _ and -, such as my_birds"),
        (["--init", "voc"], "search_spaces/voc.toml: is there already"),
        (["--prepare", "imagenet", "--raw", "x"], "x: does not exist"),
        (["--train", "willow", "--set", "optim.lrr=1"], "did you mean 'optim.lr'?"),
        (["--train", "willow", "--set", "optim.lr=fast"], "a number above 0 and at most 1"),
        (["--train", "willow", "--set", "optim.lr"], "KEY=VALUE"),
        (["--train", "willow", "--set", "model.d_model=130"], "nearest widths: 128, 132"),
        (["--train", "willow"], "--prepare willow --raw DIR"),
        (["--search", "willow"], "--prepare willow --raw DIR"),
        (["--prepare", "willow"], "--raw"),
        (["--prepare", "willow", "--raw", "nowhere"], "nowhere"),
        (["--evaluate", "nothing"], "no search or training there"),
        (["--evaluate", "absent.pt"], "absent.pt: no checkpoint there"),
        (["--report", "nothing"], "no search or training there"),
        (["--match", "nothing"], "--images"),
        (["--train", "absent.json"], "absent.json"),
        (["--download", "imagenet"], "known: spair, voc, willow"),
        (["--keys", "optimm"], "did you mean 'optim'?"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(refused, tmp_path, arguments, message):
    assert message in refused(*arguments)
    assert not list(tmp_path.rglob("*.*")), "files were left behind"


def imported_by(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own, and the heavy packages it has imported."""
    code = (
        "import json, sys\nfrom tune.cli.main import main\nexit_code = main(sys.argv[1:])\n"
        "print('\\n' + json.dumps([exit_code, sorted(sys.modules)]))"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    exit_code, modules = json.loads(done.stdout.splitlines()[-1])
    return exit_code, set(HEAVY) & set(modules)


@pytest.fixture
def results(tmp_path) -> Path:
    """A search that is there already, and a training whose data set has gone."""
    training = tmp_path / "results" / "there-train"
    training.mkdir(parents=True)
    (training / "config.json").write_text('{"data": {"name": "there"}}')
    (training / "best.pt").write_bytes(b"")
    (tmp_path / "results" / "spair").mkdir()
    (tmp_path / "results" / "spair" / "search.json").write_text("{}")
    (tmp_path / "a.jpg").write_bytes(b"")
    return tmp_path / "results"


@pytest.mark.parametrize(
    "arguments",
    [
        "--search voc",
        "--search voc --dry-run",
        "--search willow_ablation",
        "--search spair",
        "--search spair --resume",
        "--search vocc",
        "--search voc --split test",
        "--search voc --trials 0",
        "--search voc --workers 2",
        "--search voc --workers 99",
        "--train voc",
        "--train voc --workers 2",
        "--train voc --workers 99",
        "--train vocc",
        "--inspect voc",
        "--inspect vocc",
        "--evaluate nothing",
        "--evaluate nothing.pt",
        "--evaluate there-train",
        "--evaluate there-train --data nowhere",
        "--evaluate there-train --set optim.lr=1",
        "--confirm nothing",
        "--confirm there-train",
        "--report nothing",
        "--report there-train",
        "--match nothing --images a.jpg b.jpg --keypoints a.csv b.csv",
        "--match there-train --images a.jpg b.jpg --keypoints a.csv b.csv",
        "--match there-train --images a.jpg a.jpg --keypoints a.csv b.csv",
        "--prepare nothing",
        "--prepare my/birds --raw nothing",
        "--init voc",
        "--init my/birds",
        "--download nothing",
    ],
)
@pytest.mark.usefixtures("results")
def test_a_request_that_cannot_work_is_refused_before_anything_heavy_is_imported(arguments):
    assert imported_by(*arguments.split()) == (2, set())


@pytest.mark.parametrize("arguments", ["--help", "--search --help", "--keys"])
def test_help_answers_without_importing_anything_heavy(arguments):
    assert imported_by(*arguments.split()) == (0, set())


def test_help_lists_the_jobs_and_what_to_start_with():
    done = subprocess.run([sys.executable, ROOT / "run.py", "--help"], capture_output=True, text=True, check=True)
    assert "--search NAME" in done.stdout and "run.py --search demo" in done.stdout
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  --")}
    assert listed == set(READS)


@pytest.mark.parametrize("job", READS)
def test_help_of_a_job_has_its_flags_alone_and_two_examples(capsys, job):
    assert main([job, "demo", "-h"]) == main(["--help", job]) == 0
    out = capsys.readouterr().out
    assert set(re.findall(r"^  (--[a-z-]+)", out, re.MULTILINE)) == {job, *READS[job].split()}
    examples = re.findall(r"^  python run\.py (.*)$", out, re.MULTILINE)
    assert len(examples) == 2 * 2, "the text was printed twice"
    for example in examples:
        accepted(shlex.split(example))


def accepted(arguments: list[str]) -> None:
    """Raises UserError where a command is not one that the command line takes."""
    job = find_job(arguments)
    assert job is not None
    check_flags(job, given_flags(arguments))
    parse(job, arguments)


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "run.py: Interrupted. The same command with --resume continues.\n"),
        (FailedError("6 trials failed"), 1, "run.py: 6 trials failed\n"),
    ],
)
def test_the_exit_code_and_the_line_of_a_job_that_ends_early(capsys, raised, code, line):
    def ends(args):
        raise raised

    assert run_job(dataclasses.replace(search.JOB, run=ends), ["--search", "demo"]) == code
    assert capsys.readouterr().err == line


def test_jobs_without_resume_do_not_promise_it():
    for job in JOBS.values():
        assert ("--resume" in job.interrupted) == ("--resume" in job.reads)


def test_json_is_the_last_line(capsys):
    assert main(["--json", "--keys", "optim.lr"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["optim.lr"]["default"] == "0.0005"


def test_a_reader_that_leaves_early_ends_the_job_quietly():
    command = [sys.executable, "run.py", "--keys"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == CLOSED_PIPE


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_end_nothing_and_no_file_gets_their_number(closed: str, tmp_path: Path):
    program = f"""
import os
from tune.cli.main import main
status = main(["--help"])
numbers = [os.open("{tmp_path}/file", os.O_CREAT | os.O_RDWR)]
assert min(numbers) > 2 and status == 0
os.write(numbers[0], b"done")
"""
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} {closed}"
    assert subprocess.run(command, shell=True, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
    assert (tmp_path / "file").read_text() == "done"


def test_output_to_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "run.py", "--help"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    line = "run.py: the output cannot be written (No space left on device); free space where it goes\n"
    assert (done.returncode, done.stderr) == (1, line)
