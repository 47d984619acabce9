#!/usr/bin/env python
"""The command line of the platform: prepare data, train, search, evaluate and use NMT. See `run.py --help`."""

import sys

from tune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
