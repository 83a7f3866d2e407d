# `make demo` and `make test` set themselves up: all they need is Python, make
# and a package index.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format docs lesson notebooks pictures tables measure update wheel older clean

demo: .venv/ready
	@echo '== 1. Train: 1,000 steps on the Python sources of this machine.'
	@echo '   Notice: to guess among a hundred characters costs 4.6 nats; the loss is'
	@echo '   below 3 after 50 steps. val is the same on text that is not trained on,'
	@echo '   acc the share of characters that were the most likely. The samples'
	@echo '   begin as noise, and get words like self and return. Ctrl-C saves, and'
	@echo '   make demo goes on from there.'
	$(BIN)/python train.py --workdir=runs/demo --preset=shakespeare-char \
	  --dataset=stdlib --steps=1000 --eval_batches=16 --sample_every=250
	@echo '== 2. Generate: 300 characters after "def main(".'
	@echo '   Notice: it has the look of code, indented blocks and brackets, and no'
	@echo '   meaning: the model sees 64 characters and was trained for minutes.'
	$(BIN)/python -m minigpt generate --workdir=runs/demo \
	  --prompt="def main(" --max_new_tokens=300 --seed=1
	@echo '== 3. Export: a folder that TensorFlow Serving answers from.'
	@echo '   Notice: tokenizer and sampling are inside, so text goes in and out.'
	test -d models/demo/1 || \
	  $(BIN)/python export.py --workdir=runs/demo --export_dir=models/demo
	@echo '== 4. Check the export as the server runs it, beside the model itself.'
	@echo '   Notice: bad values are refused by name; greedy and sampled tokens are'
	@echo '   those that the model generates itself; every line must say pass.'
	$(BIN)/python serve_check.py --export_dir=models/demo/1 --workdir=runs/demo
	@echo
	@echo '== To try next, after . .venv/bin/activate:'
	@echo '   minigpt inspect --workdir=runs/demo --prompt="def main(" --output=report.html'
	@echo '   minigpt train --workdir=runs/demo --steps=2000'
	@echo '   minigpt train --dataset=YOUR.txt --workdir=runs/yours'

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
	$(BIN)/python docs/site/build.py

# What is made by scripts and kept in the tree: run after the code has changed.
update: lesson notebooks pictures tables

lesson: .venv/ready
	$(BIN)/python docs/lesson/update.py
	$(BIN)/python docs/reference/commands.py

notebooks: .venv/ready
	$(BIN)/python docs/notebooks/update.py

pictures: .venv/ready
	$(BIN)/python docs/images/architecture.py

tables: .venv/ready
	$(BIN)/python benchmarks/tables.py

# What the tables show: half an hour, on a machine with nothing else to do. Some
# of it: benchmarks/measure.py GROUP.
measure: .venv/ready
	$(BIN)/python benchmarks/measure.py

wheel: .venv/ready
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

# An export under an older TensorFlow, as a server's often is.
older: build/older/ready
	.ci/older check

build/older/ready: .venv/ready
	.ci/older install

.venv/ready: setup.cfg pyproject.toml
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
