# The project with its locked packages, for one GPU host (compose.yaml) and for cluster/kuberay.yaml.
#   docker build -t nmt .
FROM python:3.11-slim-bookworm

# gcc and libc6-dev are for torch.compile, openssh-client and rsync for `ray up`, wget for the probes of KubeRay.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /nmt
RUN useradd --create-home --uid 1000 nmt && chown nmt /nmt \
    && echo "PATH=/nmt/.venv/bin:\$PATH" > /etc/profile.d/nmt.sh  # KubeRay starts Ray in a login shell
USER 1000
ENV USER=nmt PATH=/nmt/.venv/bin:$PATH
# No port for metrics, as in tune/cluster/access.py.
ENV RAY_enable_metrics_collection=0 AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1

# The 6 GB of packages are a layer of their own. It is rebuilt when the lock file changes, not when the code changes.
COPY --chown=nmt Makefile pyproject.toml setup.py constraints.txt README.md LICENSE ./
RUN mkdir nmt tune && touch nmt/__init__.py tune/__init__.py && make setup EXTRAS=
COPY --chown=nmt . .

CMD ["python", "run.py", "--help"]
