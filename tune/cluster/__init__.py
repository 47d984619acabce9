"""Checks of the files in cluster/, before anything is started: `python -m tune.cluster cluster/gpu.yaml`."""
