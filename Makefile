# The commands of this repository; everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Tests start hundreds of processes that import the same: what is compiled is kept, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test lint docs web dist

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --no-compile -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/paramcast demo

lint: install
	$(BIN)/ruff check src experiments tests examples docs
	$(BIN)/ruff format --check src experiments tests examples docs
	$(BIN)/mypy

# open_clip and timm for their tests, apart from the other packages: torchvision does not load beside the CPU's build of torch, and
# where transformers finds such a one it fails.
$(VENV)/clip/.installed: $(VENV)/.installed
	$(BIN)/pip install --no-compile --no-deps --upgrade -c constraints.txt --target $(VENV)/clip \
		open-clip-torch torchvision timm ftfy
	touch $@

# Ray for its tests alone: nothing else needs it, and it is 450 MB.
$(VENV)/.ray: $(VENV)/.installed
	$(BIN)/pip install --no-compile -c constraints.txt -e '.[ray]'
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
	$(VENV)/dist/bin/pip install --no-compile -q -c constraints.txt '.[train,server]'
	$(BIN)/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
		--output-file dist/paramcast.cdx.json $(VENV)/dist/bin/python

docs: install  # tables and figures from experiments/results/, then the site, into site/
	for script in results speed cloud methods; do $(BIN)/python docs/build_$$script.py || exit 1; done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
