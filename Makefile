# `make demo` and `make test` set themselves up: all they need is Python, make
# and a package index.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format docs wheel clean

demo: .venv/ready
	$(BIN)/python train.py --workdir=runs/demo --preset=shakespeare-char \
	  --dataset=stdlib --steps=1000 --eval_batches=16 --sample_every=250
	$(BIN)/python -m minigpt generate --workdir=runs/demo \
	  --prompt="def main(" --max_new_tokens=300 --seed=1
	test -d models/demo/1 || \
	  $(BIN)/python export.py --workdir=runs/demo --export_dir=models/demo
	$(BIN)/python serve_check.py --export_dir=models/demo/1 --workdir=runs/demo

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/ready
	PDOC_ALLOW_EXEC=1 $(BIN)/python -W error::UserWarning -m pdoc \
	  --docformat google --output-directory build/docs minigpt

wheel: .venv/ready
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

.venv/ready: setup.cfg pyproject.toml
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
