# make demo: the whole way in a few minutes.  make test: every check.  Both need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= demo
# one thread per test process, as many processes as cores
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 POLARS_MAX_THREADS=1

.PHONY: demo serve test test-all lint lock clean

demo: $(VENV)/installed
	$(BIN)/hilum demo --out $(DEMO)

serve: $(VENV)/installed  # the page and the API, with the demo's bundle
	test -d $(DEMO)/run/bundle || $(BIN)/hilum demo --out $(DEMO)
	test -d $(DEMO)/run/bundle/model.onnx || $(BIN)/hilum export $(DEMO)/run/bundle
	$(BIN)/hilum serve $(DEMO)/run/bundle

test: lint
	$(ONE_THREAD) $(BIN)/python -m pytest -n auto

test-all: lint
	$(ONE_THREAD) $(BIN)/python -m pytest -n auto -m ""

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("hilum needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": name one with make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

lock:  # needs uv; addresses of registries stay out of the file
	uv pip compile --universal --generate-hashes --no-emit-index-url --quiet \
		--extra train --extra text --extra serve --extra onnx --extra openvino --extra track --extra dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) $(DEMO)
