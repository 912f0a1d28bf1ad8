# Two commands do everything from a clean clone: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint format bench emoji clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (several GB the first time, mostly torch) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[openvino,dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/visus transfer --model visus:effnet-lite0 --images visus:emoji --regime head,last-block --budget 3m --out visus-out/transfer

test: $(READY) lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(READY)
	@$(BIN)/python -m pytest -m slow; test $$? -eq 0 -o $$? -eq 5

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)
	@for script in extraction memory probe knn maps training startup; do $(BIN)/python benchmarks/$$script.py || exit 1; done

emoji: $(READY)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[tools]'
	@$(BIN)/python tools/build_emoji.py

clean:
	rm -rf $(VENV) visus-out .mypy_cache .pytest_cache .ruff_cache .bench
