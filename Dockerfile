# The project with its locked environment: for one GPU host (compose.yaml) and for cluster/kuberay.yaml.
#   docker build -t nmt .
FROM python:3.11-slim-bookworm

# gcc, libc6-dev: torch.compile; openssh-client, rsync: `ray up` from this image; wget: the probes of KubeRay
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /nmt
RUN useradd --create-home --uid 1000 nmt && chown nmt /nmt \
    && echo "PATH=/nmt/.venv/bin:\$PATH" > /etc/profile.d/nmt.sh  # KubeRay starts Ray in a login shell
USER 1000
ENV USER=nmt PATH=/nmt/.venv/bin:$PATH

# The 7 GB of packages are a layer of their own, made anew when the lock changes and not with every line of code.
COPY --chown=nmt Makefile pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir -p nmt/data nmt/model tune/cluster && make setup
COPY --chown=nmt . .

CMD ["python", "run.py", "--help"]
