"""`python -m tune.cluster FILE...`: says that the files are good, or in one line what is wrong, and exits 2."""

from __future__ import annotations

import sys
from pathlib import Path

from nmt.errors import UserError
from tune.cluster.check import check_file


def main(arguments: list[str]) -> int:
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
