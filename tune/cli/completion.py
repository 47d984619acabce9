"""`--completion SHELL`: print the script by which a shell completes jobs, flags and names at the Tab key.

The script asks the program itself, `nmt --complete LINE`, so that it knows every job, the recipes and the results here.
A generator of static scripts (shtab) does not fit: it knows subcommands, and here the job is a flag that decides which
other flags there are.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt.config import SETTINGS
from tune.cli.flags import DECODE, JSON, RESULTS, SET, Flag, OneOf, one_of
from tune.cli.job import Job

COMPLETE = "--complete"
"""first argument of a question: the next one is the line up to the cursor"""

BASH = """\
# Completion of nmt and run.py for bash: eval "$(nmt --completion bash)"
_nmt_complete() {
    local line before=${COMP_LINE:0:COMP_POINT}
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("$1" --complete "$before" 2> /dev/null)
    before=${before##* }
    if [[ $before == *=* && $COMP_WORDBREAKS == *=* ]]; then  # bash replaces what follows the last = alone
        COMPREPLY=("${COMPREPLY[@]#"${before%"${before##*=}"}"}")
    fi
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2> /dev/null
    fi
}
complete -o bashdefault -o default -F _nmt_complete nmt run.py
"""
ZSH = """\
# Completion of nmt and run.py for zsh, after compinit: eval "$(nmt --completion zsh)"
_nmt_complete() {
    local -a found
    found=(${(f)"$("${words[1]}" --complete "${BUFFER[1,CURSOR]}" 2> /dev/null)"})
    if (( $#found )); then
        compadd -- ${found:#*=}
        compadd -S '' -- ${(M)found:#*=}
    else
        _files
    fi
}
compdef _nmt_complete nmt run.py
"""
FISH = """\
# Completion of nmt and run.py for fish: nmt --completion fish | source
function __nmt_complete
    set -l program (commandline -opc)[1]
    set -l found ($program --complete (commandline -cp | string collect) 2> /dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c nmt -f -a '(__nmt_complete)'
complete -c run.py -f -a '(__nmt_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def candidates(line: str, jobs: Mapping[str, Job]) -> list[str]:
    """List what the last word of a command line may become.

    Args:
        line: the line up to the cursor, the program first.
        jobs: all jobs by their flag.

    Returns:
        Whole words; empty where the shell should offer file names. A word that ends with = wants a value after it.
    """
    words, current = _split(line)
    job = next((jobs[word] for word in words if word in jobs), None)
    if job is None:
        return _beginning(current, [*jobs, "--help", "--version"])
    asked = _asked(job, words)
    if asked is not None:
        return _beginning(current, _values(asked, job, words, current))
    left = [flag.name for flag in job.flags if flag.name not in words or flag.options.get("action") == "append"]
    return _beginning(current, [*left, "--help"])


def _split(line: str) -> tuple[list[str], str]:
    """Split a line into its whole words without the program, and the word at the cursor, which may be empty."""
    words: list[str] = []
    for end in ("", '"', "'"):  # a quote may still be open
        with contextlib.suppress(ValueError):
            words = shlex.split(line + end)
            break
    current = words.pop() if words and not line[-1].isspace() else ""
    return words[1:], current


def _asked(job: Job, words: Sequence[str]) -> Flag | None:
    """Return the flag whose value comes next, the job's own included; None if a flag comes next."""
    own = Flag(job.flag, dict(job.argument_options))
    flags = {flag.name: flag for flag in (own, *job.flags)}
    for values, word in enumerate(reversed(words)):
        if word in flags:
            options = flags[word].options
            count = 0 if options.get("action") == "store_true" else options.get("nargs") or 1
            return flags[word] if values < (1 if count == "?" else count) else None
        if word.startswith("--"):
            return None
    return None


def _values(flag: Flag, job: Job, words: Sequence[str], current: str) -> Iterable[str]:
    """List the values of a flag that are known."""
    kind = flag.options.get("type")
    if isinstance(kind, OneOf):
        return kind.values
    if flag.name == job.flag:
        given = dict(itertools.pairwise(words)).get(RESULTS.name)
        return job.names(Path(given) if given else RESULTS.options["default"])
    if flag.name != SET.name:
        return []
    keys = [key for key in SETTINGS if key.startswith("decode.") or DECODE not in job.flags]
    key, equals, _ = current.partition("=")
    if not equals or key not in keys:
        return [f"{key}=" for key in keys]
    setting = SETTINGS[key]
    known = ("true", "false") if setting.type is bool else setting.choices or ()
    return [f"{key}={value}" for value in known]


def _beginning(current: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(current)]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Print the script."""
    print(SCRIPTS[args.name], end="")
    return {"shell": args.name}


JOB = Job(
    flag="--completion",
    metavar="SHELL",
    argument="bash, zsh or fish",
    argument_options=(("type", one_of(*SCRIPTS)),),
    summary="print the script that completes jobs, flags and names at the Tab key",
    description=(
        "Print the script by which a shell completes jobs, flags, configuration keys, recipes and names of results at "
        "the Tab key, for nmt and for ./run.py. Evaluate it where the shell starts, such as in ~/.bashrc."
    ),
    examples=("--completion bash", "--completion zsh"),
    flags=(JSON,),
    run=run,
)
