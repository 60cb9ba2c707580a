# `make repro` runs the pipeline on real data, `make test` runs the tests.
# Both set up .venv first; nothing but the Python package registry is reached.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: repro test test-gpu lint dag setup clean

repro: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	@$(BIN)/python -m stages.results

test: setup lint
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest

test-gpu: setup # what uses a GPU, on a machine that has one
	@REC_TEST_GPU=1 PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest tests/gpu tests/llm/hf

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

dag: setup # the pipeline on one screen
	@$(BIN)/python -m stages.dag

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	@./setup.sh $(PYTHON)

clean: # the environment; data and DVC's cache stay
	rm -rf $(VENV)
