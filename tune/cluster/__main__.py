"""Command line of the cluster checks: `python -m tune.cluster FILE...` checks the files and prints the first mistake.

Exit status: 0 if all files are good, 2 if one is not.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nmt.errors import UserError
from tune.cluster.check import check_file


def main(arguments: list[str]) -> int:
    """Check the named files and return the exit status."""
    if not arguments or arguments[0].startswith("-"):
        print("usage: python -m tune.cluster FILE...   (cluster/*.yaml, cluster/slurm.sbatch)", file=sys.stderr)
        return 2
    try:
        for name in arguments:
            check_file(Path(name))
            print(f"{name}: good")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
