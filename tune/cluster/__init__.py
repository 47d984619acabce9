"""Offline checks of the files in cluster/: `python -m tune.cluster cluster/gpu.yaml`."""
