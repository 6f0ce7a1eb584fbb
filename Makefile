# Everything a person needs is a target here; each but `seed` brings up what it needs by itself.

# the ports: what make is told, else what .env (PostgreSQL's: .dev) says since it was told last
PORT          ?= $(or $(shell test -f .env && sed -n 's/^PORT=\([0-9]*\)$$/\1/p' .env 2> /dev/null),8000)
VAULT_PORT    ?= $(or $(shell test -f .env && sed -n 's,^VAULT_URL=http://127\.0\.0\.1:\([0-9]*\)$$,\1,p' .env 2> /dev/null),8200)
POSTGRES_PORT ?= $(or $(shell sed -n 's/.*"port": \([0-9]*\).*/\1/p' .dev/postgres.json 2> /dev/null),5433)
VAULT_RUNTIME ?= auto
CONJUR_PORT   ?= 8280 # extra: conjur
PYTHON        ?= python3

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
CLIENT := 'client --group ../pyproject.toml:client' # extra: api_keys
UV     = $(or $(shell command -v uv),$(wildcard $(BIN)/uv))
# for uvicorn, wherever it is started: the seconds that requests get to end, how many connections there may be, and
# a protocol that waits for no caller for ever
LIMITS := --timeout-graceful-shutdown 4 --limit-concurrency 512 --http app.core.run.bounded_http:BoundedHTTP
# the dev Vault is always on this machine: a VAULT_ADDR of the shell's is not meant
VAULT := http://127.0.0.1:$(VAULT_PORT)
APP := http://127.0.0.1:$(PORT)
# Python keeps what it compiled, whatever the shell says: the tests start hundreds of processes
PYTEST := VAULT_TOKEN=junk-from-the-shell PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
PARALLEL := -q --numprocesses auto --dist loadgroup --override-ini console_output_style=classic

DOCS = printf '  docs     %s/docs\n' $(APP) && # extra: api_docs
STATUS = printf '  status   %s/status\n' $(APP) && # extra: status
# where Vault issues credentials for a database, its tables are brought up to date
MIGRATE = if [ -d app/migrations ] && grep -q '^VAULT_DYNAMIC__DATABASE=' .env; then $(MAKE) --no-print-directory migrate; fi
SEED_AND_TELL = $(MAKE) --no-print-directory seed && $(MIGRATE) && \
  printf '\n  app      %s\n  health   %s/health/ready\n' $(APP) $(APP) && \
  $(DOCS) \
  $(STATUS) \
  printf '  Vault    $(VAULT)/ui (token dev-token-12345)\n\n'
SERVE := VAULT_URL=$(VAULT) $(BIN)/uvicorn app.main:app --host 127.0.0.1 --port $(PORT) --no-access-log --no-server-header $(LIMITS)

.DEFAULT_GOAL := help
# from the environment to a handler: what to read to understand the whole
PATH_TO_READ := $(addprefix app/,main.py app_secrets.py config.py vault.py $(addprefix core/store/,secret_store.py \
  source_refresher.py refresh.py rotating.py) $(addprefix core/vault/,session.py login.py kv.py auth_methods/protocol.py \
  auth_methods/approle.py) core/web/dependencies.py)

.DELETE_ON_ERROR:
.PHONY: help hooks image setup run dev secret upgrade path vault-up vault-down seed migrate test test-fast test-all check licences format drill bench bench-peers lock clean rename slim update

##@ Start
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nVariables: PORT=%s VAULT_PORT=%s POSTGRES_PORT=%s VAULT_RUNTIME=%s (auto, docker or embedded)\n' $(PORT) $(VAULT_PORT) \
	  $(POSTGRES_PORT) $(VAULT_RUNTIME)

setup: $(STAMP) ## make the virtual environment .venv from the hash-pinned requirements
	@echo 'setup: $(VENV) is ready'

run: vault-up ## serve the app, with a dev Vault that is started and seeded
	@$(SEED_AND_TELL)
	@$(SERVE)

dev: vault-up ## the same, and start again when a file in app/ changes
	@$(SEED_AND_TELL)
	@echo 'each change in app/ starts a new process, which logs in again: a wrapped secret id is good for one login'
	@$(SERVE) --reload --reload-dir app

# extra: doctor
.PHONY: doctor
doctor: $(STAMP) ## say what is wrong between the settings and the secrets, and what fixes it
	@$(BIN)/python -m app doctor $(ARGS)
# /extra

##@ Dev Vault
vault-up: $(STAMP) ## start the dev Vault, and a PostgreSQL beside it, in Docker or embedded
	@$(BIN)/python -m infrastructure.dev_vault up --port $(VAULT_PORT) --runtime $(VAULT_RUNTIME)
	@$(BIN)/python -m infrastructure.dev_database up --port $(POSTGRES_PORT)

vault-down: $(STAMP) ## stop both; what is in the Vault is gone, the database keeps its data
	@$(BIN)/python -m infrastructure.dev_database down
	@$(BIN)/python -m infrastructure.dev_vault down

seed: $(STAMP) ## put secret, policy and AppRole into it (RESET=1: new values)
	@$(BIN)/python -m infrastructure.seed --url $(VAULT) --port $(PORT) $(if $(RESET),--reset)

migrate: $(STAMP) ## bring the tables up to date, with credentials that Vault issues for that alone
	@VAULT_URL=$(VAULT) VAULT_DYNAMIC__DATABASE=database/creds/shop-migrate VAULT_ROLE_ID_FILE=.dev/migrate-role-id \
	  VAULT_SECRET_ID_FILE=.dev/migrate-secret-id $(BIN)/python -m app exec -- $(BIN)/alembic upgrade head

secret: $(STAMP) ## set one secret in it: make secret KEY=stripe_key; asks for the value, or reads standard input
	@$(BIN)/python -m infrastructure.secret --url $(VAULT) '$(KEY)'

# extra: conjur
##@ Dev Conjur
.PHONY: conjur-up conjur-down
conjur-up: $(STAMP) ## start a real Conjur in Docker, and say how to test against it
	@$(BIN)/python -m infrastructure.dev_conjur up --port $(CONJUR_PORT)

conjur-down: $(STAMP) ## stop it; what is in it is gone
	@$(BIN)/python -m infrastructure.dev_conjur down
# /extra

##@ Quality
test: $(STAMP) ## run all tests but the slow ones, with the servers that they need (ARGS='-k login': some of them)
	@$(PYTEST) $(if $(ARGS),$(ARGS),$(PARALLEL) -m 'not slow')

test-fast: $(STAMP) ## run the tests that need no server, in seconds
	@$(PYTEST) $(PARALLEL) -m 'not server and not slow' --ignore-glob '*/integration' $(ARGS)

test-all: $(STAMP) ## run all tests, and measure which branches they reach
	@$(BIN)/python -m coverage erase
	@$(PYTEST) $(PARALLEL) -m 'not alone' --cov --cov-report= --cov-fail-under=0
	@$(PYTEST) -q -m alone --cov --cov-append $(or $(ARGS),--cov-report=term:skip-covered)

check: $(STAMP) ## check format, lint, types, layers, dead code, dependencies, and that no file holds a credential
	@$(BIN)/ruff format --quiet --check . || { echo 'format: run `make format`'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@$(BIN)/hadolint Dockerfile
	@[ ! -d .github ] || $(BIN)/zizmor --offline --quiet --no-progress .github > $(VENV)/zizmor.log || { cat $(VENV)/zizmor.log; exit 1; }
	@$(BIN)/python -m infrastructure.manifests
	@$(BIN)/python -m infrastructure.licences > $(VENV)/licences.log
	@$(BIN)/deptry . > $(VENV)/deptry.log 2>&1 || { cat $(VENV)/deptry.log; exit 1; }
	@$(BIN)/vulture > $(VENV)/vulture.log || [ $$? = 3 ] || { cat $(VENV)/vulture.log; exit 1; }
	@# where an extra is gone, what core has for it is not dead
	@grep -q ^without .blueprint.toml || ! grep -E '^app/(core|extras)/' $(VENV)/vulture.log
	@$(BIN)/python -m pytest -q tests/core/test_no_secrets.py > $(VENV)/secrets.log || { cat $(VENV)/secrets.log; exit 1; }

licences: $(STAMP) ## list the licences of what the service installs, and fail if one asks for its source
	@$(BIN)/python -m infrastructure.licences

hooks: $(STAMP) ## let git refuse a commit that holds a credential, or that ruff complains of
	@$(BIN)/prek install --quiet && echo 'hooks: git runs .pre-commit-config.yaml before each commit'

format: $(STAMP) ## format the code and fix what can be fixed by itself
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

image: $(STAMP) ## build the image, look for secrets in it, and try it as production runs it (Docker or podman)
	@$(BIN)/python -m infrastructure.image $(ARGS)

drill: $(STAMP) ## walk the service through every fault of Vault, and of its database, under load (about six minutes)
	@$(BIN)/python -m infrastructure.drill $(ARGS)
	@$(BIN)/python -m infrastructure.database_drill $(ARGS)

bench: $(STAMP) ## measure what the design promises about speed, and what an instance takes
	@for each in speed scale throughput redaction capacity; do $(BIN)/python -m benchmarks.$$each || exit 1; done

bench-peers: $(STAMP) ## put it side by side with what people use instead (about five minutes; their packages go into .dev)
	@$(BIN)/python -m benchmarks.peers

##@ House keeping
upgrade: ## take the newest versions of all packages, and pin them with their hashes
	@$(MAKE) --no-print-directory lock UPGRADE=--upgrade

path: ## print the files to read first, with their lines
	@wc -l $(PATH_TO_READ)

lock: $(STAMP) ## pin what pyproject.toml asks for, with hashes; what is pinned already stays
	@test -n '$(UV)' || { echo 'error: `make lock` needs uv'; exit 1; }
	@cd requirements && for set in runtime 'tracing --extra tracing' 'dev --group ../pyproject.toml:dev --extra tracing' \
	  $(CLIENT) 'uv --group ../pyproject.toml:uv'; do set -- $$set; name=$$1; shift; \
	  source=../pyproject.toml; case $$name in uv|client) source=;; esac; \
	  $(abspath $(UV)) pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes --no-annotate --no-strip-extras \
	    --custom-compile-command 'make lock' --output-file $$name.txt $$source "$$@"; done

clean: ## remove what was made here: the environment, caches and the dev servers' files
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m infrastructure.dev_database clean; fi
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m infrastructure.dev_vault down; fi
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m infrastructure.dev_conjur down; fi # extra: conjur
	@rm -rf $(VENV) .dev .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find $(wildcard app infrastructure tests benchmarks) -name __pycache__ -prune -exec rm -rf {} +

rename: $(STAMP) ## make the clone your own project: make rename NAME=my-service
	@$(BIN)/python -m infrastructure.rename '$(NAME)'

update: $(STAMP) ## take in what the template has learned since: make update (TEMPLATE=where it is, the first time)
	@$(BIN)/python -m infrastructure.update '$(TEMPLATE)'

slim: $(STAMP) ## remove extras that you do not need: make slim WITHOUT="conjur doctor"
	@$(BIN)/python -m infrastructure.slim $(WITHOUT)

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
