# make parity   run the main job: every model in every framework, judged by the float64 reference
# make test     the whole suite (test-core, test-torch, test-mindspore, test-paddle, test-jax: one part)
# make demo     train a small network in one framework (BACKEND=torch), judge the file in all: a table, a picture
# make peers    our networks against every publisher's own class, also by `pytest --parity`; writes docs/peers.md.
#               ARGS=--one-each: one network of each publisher, and nothing is written
# make nightly  the tests that the suite leaves out because they take long
# make fuzz     the readers of checkpoints on spoilt files, for a quarter of an hour
# make survival kill runs 20 times in every framework and go on, bit for bit; 2,000 steps in the same memory
# make bench    what inference, training steps, the loader and checkpoints cost, beside the publishers'; docs/speed.md
# make schema   docs/model.schema.json, from the code
# make reference the float64 outputs that the package keeps: zoo/parity/stored_reference.safetensors
# make cards    docs/models, a page and a picture for each network, and docs/published_tables.md
# make docs     the documentation site, in English and Chinese: site/index.html
# make lint     ruff, mypy, and import-linter: imports run downwards only
# make env      only the environment, .venv, which all of them share
#
# make parity MODELS="googlenet inception_v3.mindcv" BACKENDS="torch paddle" ARGS="--layers --size 331"

PYTHON ?= python3
VENV   ?= .venv
MODELS ?= inception_v4 inception_v3 googlenet
FRAMEWORKS := torch mindspore paddle jax
BACKENDS ?= $(FRAMEWORKS)
BACKEND ?= torch
ARGS   ?=

BIN := $(VENV)/bin
comma := ,
empty :=
space := $(empty) $(empty)

SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: parity test test-core test-torch test-mindspore test-paddle test-jax nightly demo peers fuzz survival bench schema reference cards docs lint env

parity: env
	$(BIN)/zoo parity $(MODELS) --backends $(subst $(space),$(comma),$(strip $(BACKENDS))) $(ARGS)

# A process for each framework, as MindSpore and Paddle cannot share one; two at a time, the longest first, each with
# half of the processors: more threads than processors take longer, and threads that wait take time from the other part.
test: env
	@set -e; export ZOO_TEST_WEIGHTS=$$(mktemp -d); trap 'rm -rf "$$ZOO_TEST_WEIGHTS"' EXIT; \
	processors=$$($(BIN)/python -c "import os; print(len(os.sched_getaffinity(0)))"); \
	export OMP_NUM_THREADS=$$(( (processors + 1) / 2 )) OMP_WAIT_POLICY=passive; \
	$(MAKE) --no-print-directory --keep-going -j2 $(SYNC) test-core test-torch test-mindspore test-jax test-paddle

test-core: env
	$(BIN)/pytest tests

$(FRAMEWORKS:%=test-%): test-%: env
	$(BIN)/pytest tests/frameworks --framework $*

nightly: env
	$(BIN)/pytest tests -m nightly
	@set -e; for framework in $(FRAMEWORKS); do \
	$(BIN)/pytest tests/frameworks --framework $$framework -m nightly; done

demo: env
	$(BIN)/python examples/demo.py --backend $(BACKEND) $(ARGS)

peers: env
	PYTHONPATH=tests/peers $(BIN)/pytest tests/peers --parity -m parity
	$(BIN)/python tests/peers/matrix.py $(ARGS)
	$(BIN)/python docs/cards.py

fuzz: env
	ZOO_FUZZ_EXAMPLES=50000 $(BIN)/pytest tests/test_fuzz.py

survival: env
	$(BIN)/python tests/frameworks/kills.py
	$(BIN)/python benchmarks/memory.py

bench: env
	$(BIN)/python benchmarks/inference.py --compiled inception_v4 --out docs/speed.md
	$(BIN)/python docs/cards.py
	$(BIN)/python benchmarks/checkpoints.py
	$(BIN)/python benchmarks/training.py

schema: env
	$(BIN)/python -c "import json; from zoo.language.document import schema; print(json.dumps(schema(), indent=2))" \
		> docs/model.schema.json

reference: env
	$(BIN)/python -c "from zoo.parity import stored_reference; stored_reference.write()"

cards: env
	$(BIN)/python docs/cards.py
	$(BIN)/python docs/published_tables.py

docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

env: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml constraints.txt tests/peers/packages.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the four frameworks into $(VENV): 5 GB, a minute or two."
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[torch,mindspore,paddle,jax,onnx,openvino,train,test,docs,dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r tests/peers/packages.txt
	@touch $@
