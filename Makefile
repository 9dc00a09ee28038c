# `make demo` and `make test` do everything; each makes the environment .venv when it needs it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
OUT ?= demo-output
UV = .venv/bin/uv pip
LOCKS = $(patsubst %,docker/requirements/%.txt,train serve serve-gpu aws)
COMPILE = $(UV) compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock"

.PHONY: demo test check format lock images sbom audit install clean

demo: .venv/installed  ## S3 → tune → train → deploy → invoke → clean up (DATA=folder WEIGHTS=file OUT=folder RUNNER=docker)
	@.venv/bin/python -m scripts.demo --out "$(OUT)" $(if $(RUNNER),--runner "$(RUNNER)") $(if $(DATA),--data "$(DATA)") $(if $(WEIGHTS),--weights "$(WEIGHTS)")

test: check  ## everything CI runs: lint, types, tests
	.venv/bin/pytest

check: .venv/installed  ## lint and types
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy

format: .venv/installed
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

install: .venv/installed

lock: .venv/installed  ## resolves docker/requirements/*.txt anew from pyproject.toml, and the clients of tests/clients
	$(COMPILE) pyproject.toml --extra dev --extra build --output-file docker/requirements/dev.txt
	for name in build train serve serve-gpu aws; do \
	  $(COMPILE) pyproject.toml --extra $$name --constraint docker/requirements/dev.txt \
	    --output-file docker/requirements/$$name.txt || exit 1; done
	for name in awscli sdk2 sdk3; do \
	  $(COMPILE) tests/clients/$$name.in --output-file tests/clients/$$name.txt || exit 1; done

images: .venv/installed  ## builds both images (BUILD='--network host --build-arg PYTHON_IMAGE=python@sha256:...')
	@.venv/bin/kennel images build $(BUILD)

sbom: .venv/installed  ## what each image installs, with hashes and licences: build/sbom/*.cdx.json
	.venv/bin/python -m scripts.sbom --out build/sbom $(LOCKS)

audit: sbom  ## known vulnerabilities of what the images install
	.venv/bin/python -m scripts.audit $(LOCKS)

.venv/installed: pyproject.toml docker/requirements/dev.txt docker/requirements/build.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "Kennel needs Python 3.11 (found: $$("$(PYTHON)" --version 2>/dev/null || echo none)). Install it, for example with" >&2; \
	  echo "'apt install python3.11 python3.11-venv', 'brew install python@3.11' or 'uv python install 3.11'," >&2; \
	  echo "or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import os, shutil, sys, sysconfig as c; \
	  sys.exit(not (shutil.which("cc") and os.path.exists(c.get_path("include") + "/Python.h")))' || { \
	  echo "Kennel needs a C compiler and Python's headers: sagemaker-training comes as source. Install them, for" >&2; \
	  echo "example with 'apt install gcc python3.11-dev'." >&2; exit 1; }
	@echo "Making the environment .venv (once; with torch's CUDA libraries about 5 GB) ..."
	"$(PYTHON)" -m venv --clear .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement docker/requirements/build.txt
	$(UV) sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes \
	  --build-constraints docker/requirements/build.txt docker/requirements/dev.txt
	$(UV) install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf .venv demo-output build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
