# Everything a person needs is a target here; each but `seed` brings up what it needs by itself.

PORT          ?= 8000
VAULT_PORT    ?= 8200
VAULT_RUNTIME ?= auto
CONJUR_PORT   ?= 8280
PYTHON        ?= python3

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
UV     = $(or $(shell command -v uv),$(wildcard $(BIN)/uv))
# the dev Vault is always on this machine: a VAULT_ADDR of the shell's is not meant
VAULT := http://127.0.0.1:$(VAULT_PORT)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run doctor vault-up vault-down seed conjur-up conjur-down test check format drill bench lock clean rename

##@ Start
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nVariables: PORT=%s VAULT_PORT=%s VAULT_RUNTIME=%s (auto, docker or embedded)\n' $(PORT) $(VAULT_PORT) $(VAULT_RUNTIME)

setup: $(STAMP) ## make the virtual environment .venv from the hash-pinned requirements
	@echo 'setup: $(VENV) is ready'

run: vault-up ## serve the app, with a dev Vault that is started and seeded
	@$(MAKE) --no-print-directory seed
	@printf '\n  app      http://127.0.0.1:%s\n  docs     http://127.0.0.1:%s/docs\n  status   http://127.0.0.1:%s/status\n  health   http://127.0.0.1:%s/health/ready\n' $(PORT) $(PORT) $(PORT) $(PORT)
	@printf '  Vault    $(VAULT)/ui (token dev-token-12345)\n\n'
	@VAULT_URL=$(VAULT) $(BIN)/uvicorn app.main:app --host 127.0.0.1 --port $(PORT) --no-access-log --no-server-header

doctor: $(STAMP) ## say what is wrong between the settings and the secrets, and what mends it
	@$(BIN)/python -m app doctor $(ARGS)

##@ Dev Vault
vault-up: $(STAMP) ## start the dev Vault, in Docker or embedded
	@$(BIN)/python -m infrastructure.dev_vault up --port $(VAULT_PORT) --runtime $(VAULT_RUNTIME)

vault-down: $(STAMP) ## stop it; what is in it is gone
	@$(BIN)/python -m infrastructure.dev_vault down

seed: $(STAMP) ## put secret, policy and AppRole into it (RESET=1: new values)
	@$(BIN)/python -m infrastructure.seed --url $(VAULT) $(if $(RESET),--reset)

##@ Dev Conjur
conjur-up: $(STAMP) ## start a real Conjur in Docker, and say how to test against it
	@$(BIN)/python -m infrastructure.dev_conjur up --port $(CONJUR_PORT)

conjur-down: $(STAMP) ## stop it; what is in it is gone
	@$(BIN)/python -m infrastructure.dev_conjur down

##@ Quality
test: $(STAMP) ## run all tests, with the servers that they need (ARGS='-k login': some of them)
	@$(BIN)/python -m coverage erase
	@VAULT_TOKEN=junk-from-the-shell $(BIN)/python -m pytest $(if $(ARGS),$(ARGS),--cov --cov-report=term:skip-covered)

check: $(STAMP) ## check format, lint, types and layers, and that no file holds a credential
	@$(BIN)/ruff format --quiet --check . || { echo 'format: run `make format`'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@$(BIN)/python -m pytest -q tests/test_no_secrets.py > $(VENV)/secrets.log || { cat $(VENV)/secrets.log; exit 1; }

format: $(STAMP) ## format the code and mend what can be mended by itself
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

drill: $(STAMP) ## walk the service through every fault of Vault, under load (about four minutes)
	@$(BIN)/python -m infrastructure.drill $(ARGS)

bench: $(STAMP) ## measure what the design promises about speed
	@$(BIN)/python -m benchmarks.speed && $(BIN)/python -m benchmarks.redaction

##@ House keeping
lock: $(STAMP) ## renew the hash-pinned requirements from pyproject.toml
	@test -n '$(UV)' || { echo 'error: `make lock` needs uv'; exit 1; }
	@cd requirements && for set in runtime 'tracing --extra tracing' 'dev --group ../pyproject.toml:dev --extra tracing' \
	  'uv --group ../pyproject.toml:uv'; do set -- $$set; name=$$1; shift; \
	  source=../pyproject.toml; [ $$name = uv ] && source=; \
	  $(abspath $(UV)) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --custom-compile-command 'make lock' --output-file $$name.txt $$source "$$@"; done

clean: ## remove what was made here: the environment, caches and the dev servers' files
	@if [ -x $(BIN)/python ]; then for server in vault conjur; do $(BIN)/python -m infrastructure.dev_$$server down; done; fi
	@rm -rf $(VENV) .dev .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find $(wildcard app infrastructure tests benchmarks) -name __pycache__ -prune -exec rm -rf {} +

rename: $(STAMP) ## make the clone your own project: make rename NAME=my-service
	@$(BIN)/python -m infrastructure.rename '$(NAME)'

# uv where it is or can be had, plain pip otherwise; both check the hashes
$(STAMP): requirements/dev.txt requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed; name it with PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@echo 'setup: installing the hash-pinned requirements into $(VENV)'
	@export PIP_DISABLE_PIP_VERSION_CHECK=1; lock='--require-hashes -r requirements/dev.txt'; \
	into='uv pip install --quiet --python $(BIN)/python'; \
	if command -v uv > /dev/null; then uv venv --quiet --clear --python $(PYTHON) $(VENV) && $$into $$lock && exit; fi; \
	$(PYTHON) -m venv --clear $(VENV) || exit; pip='$(BIN)/python -m pip install --quiet'; \
	if $$pip --require-hashes -r requirements/uv.txt 2> $(VENV)/uv.log && $(BIN)/$$into $$lock 2>> $(VENV)/uv.log; then exit; fi; \
	echo 'setup: not with uv ($(VENV)/uv.log says why), so with pip'; $$pip $$lock
	@touch $@
