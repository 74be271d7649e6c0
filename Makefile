# What a newcomer types is `make up` and `make test`; README.md says what they do.
export CORTEN_DIR ?= /var/lib/corten
export NODES
KEEP ?=
SHELL := /bin/bash

.PHONY: up down status build test verify format

up: ## a running cluster; NODES=2 for two nodes, BIN=folder for binaries that are built already
	@hack/cluster/packages
	@$(if $(BIN),,hack/build)
	@hack/cluster/up

down: ## ends it and removes everything; KEEP=1 keeps its state for the next `make up`
	@KEEP=$(KEEP) hack/cluster/down

status: ## what of it runs
	@hack/cluster/status

build: ## the release binaries
	@hack/build

test: ## verify, unit, integration and end-to-end tests
	@hack/test

verify: ## formatting, lints, layers, words, licences, unused dependencies, generated files, scripts
	@hack/cluster/packages test
	@hack/verify

format:
	cargo fmt --all
