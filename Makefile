# Everything runs in .venv. It is made on first use, and again when the content of the dependencies changes.
PYTHON ?= python3
BIN := .venv/bin

# What to install beyond what a user needs: aws or gcp for a node of cluster/; dev for developers, as `make test` does.
EXTRAS ?=

# The stamps are named after the content, because times do not survive a copy to a node or into an image.
LOCK := $(shell cat pyproject.toml constraints.txt | \
	$(PYTHON) -c "import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])")
STAMP := .venv/.installed-$(LOCK)
DEV := $(STAMP)-dev

# PIP_CONSTRAINT also locks the packages that pip builds with; -c would not. Compiling the modules afterwards, on all
# cores, is faster than pip's own way. It exits 1 for templates of other packages that are not valid Python: ignored.
define install
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -e "$(1)"
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true
	@touch $@
endef

.PHONY: setup demo test test-all lint clean

setup: $(STAMP)$(if $(EXTRAS),-$(EXTRAS))

$(STAMP):
	@echo "Installing 6 GB of packages into .venv: two to four minutes"
	$(PYTHON) -m venv --clear .venv
	$(call install,.)

# Extras are added to what is there.
$(STAMP)-%: $(STAMP)
	@echo "Adding the packages of [$*] to .venv"
	$(call install,.[$*])

# The whole pipeline on rendered data, without internet. A second call continues where the first one stopped.
demo: $(STAMP)
	$(BIN)/python run.py --search demo $(if $(wildcard results/demo/search.json),--resume)
	$(BIN)/python run.py --evaluate demo --split test

test: $(DEV)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# All tests, the slow ones too: three quarters of an hour.
test-all: $(DEV)
	$(BIN)/python -m pytest -m ""

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
