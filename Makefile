# Needs Python 3.11 or later, make and a package index; pip's own configuration chooses the index.

PYTHON ?= python3
# An exported HOST is some other program's more often than ours, so only `make HOST=...` counts.
HOST =

SERVE := .venv-serve
DEV := .venv-dev
MUTATION := .venv-mutation
RUN := $(DEV)/bin/python -m
# A Node.js from elsewhere brings its own npm, and conflicts with Debian's.
NODE := $(if $(shell command -v npm),,nodejs npm)
# kubectl of Kubernetes' own packages, newer than Debian 12's, which knows no components.
KUBECTL := $(if $(shell command -v kubectl),,kubernetes-client)
SYSTEM_PACKAGES := buildah chromium chromium-driver curl debootstrap git iproute2 nginx openjdk-17-jdk-headless prometheus python3-venv strace systemd wget $(NODE) $(KUBECTL)
# Tests that try as much as their profile of Hypothesis says (tests/conftest.py).
TORTURE := tests/models/tasks/test_properties.py tests/service/startup/test_hostile_bundles.py \
	tests/service/http/test_hostile_bytes.py tests/service/engine/test_stress.py tests/service/test_contract.py \
	tests/kills
# It throws an exception into a thread, upon which CPython 3.11 hangs while it is traced.
UNTRACED := --deselect tests/service/engine/test_faults.py::test_a_worker_that_is_killed_is_replaced
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.DELETE_ON_ERROR:
.PHONY: help serve train loadtest bench test test-system torture coverage mutation image-test system-deps format constraints lock licences sbom clean map

help: ## Say what the targets do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(SERVE)/.installed ## Serve bundles/ on port 8000 (PORT=9000, HOST=0.0.0.0)
	@exec env HALFDEPTH_LOG_FORMAT=$${HALFDEPTH_LOG_FORMAT:-text} $(if $(PORT),HALFDEPTH_PORT=$(PORT)) $(if $(HOST),HALFDEPTH_HOST=$(HOST)) $(SERVE)/bin/python -m service

train: $(DEV)/.installed ## Set up .venv-dev, which has what training and export need

loadtest: $(DEV)/.installed ## Serve bundles/, load it with Locust for 60 s, leave HTML and CSV in runs/loadtest
	$(RUN) loadtest

bench: $(DEV)/.installed ## Measure the latency report into runs/report (SHORT=1: 3 minutes instead of 40)
	$(RUN) halfdepth loadtest report $(if $(SHORT),--short)

test: $(DEV)/.installed ## Run ruff, mypy and every test that needs no Debian package
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy & types=$$!; $(RUN) pytest -p tests.no_skips; status=$$?; wait $$types && exit $$status

test-system: $(DEV)/.installed ## Run the tests marked `system` (after `make system-deps`)
	$(RUN) pytest -p tests.no_skips -m system

torture: $(DEV)/.installed ## Try texts, bundles, requests, kills, faults under load and a soak for half an hour; a failure prints its seed
	$(RUN) pytest -p tests.no_skips --hypothesis-profile torture $(TORTURE)
	$(RUN) halfdepth loadtest faults --times 3
	$(RUN) halfdepth loadtest soak --minutes 5

coverage: $(MUTATION)/.installed ## Count the lines and branches of service/ and models/tasks that their tests run; pages in runs/coverage
	rm -rf runs/coverage
	$(MUTATION)/bin/coverage run -m pytest -p tests.no_skips $(UNTRACED) tests/models/tasks tests/service
	$(MUTATION)/bin/coverage combine --quiet
	$(MUTATION)/bin/coverage html --quiet
	$(MUTATION)/bin/coverage json --quiet
	$(MUTATION)/bin/coverage report --skip-covered
	$(RUN) scripts.coverage_bounds runs/coverage/report.json

mutation: $(MUTATION)/.installed ## Break models/tasks and service/engine in 300 places (SAMPLE=0: in all) and see which the tests notice
	rm -rf mutants
	$(MUTATION)/bin/python -m scripts.mutants $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS))

image-test: $(DEV)/.installed ## Build the container image, ask it, weigh it (after `make system-deps`; as root)
	$(SUDO) $(RUN) pytest -p tests.no_skips -m system tests/test_image.py

system-deps: ## Install the Debian packages that the tests marked `system` use
	dpkg --status $(SYSTEM_PACKAGES) >/dev/null 2>&1 || { $(SUDO) apt-get update \
		&& $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $(SYSTEM_PACKAGES); }

map: ## Print each module with the first line of its docstring
	@$(PYTHON) -c 'import ast, pathlib; [print(f"{path!s:<42}{ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]}") \
		for top in ("models", "export", "service", "loadtest") for path in sorted(pathlib.Path(top).rglob("*.py")) if path.name != "__init__.py"]'

format: $(DEV)/.installed ## Format the code and mend what ruff can mend
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

sbom: $(SERVE)/.installed ## Write sbom.cdx.json: what the service is made of, in CycloneDX
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0
	.venv-sbom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --output-file sbom.cdx.json $(SERVE)/bin/python

licences: $(SERVE)/.installed ## Write the table of docs/licences.md
	$(PYTHON) -m venv .venv-licences
	.venv-licences/bin/python -m pip install --quiet --disable-pip-version-check pip-licenses==5.5.5
	{ sed '/^|/,$$d' docs/licences.md && .venv-licences/bin/pip-licenses --python $(SERVE)/bin/python --from mixed \
		--format markdown --ignore-packages halfdepth; } > docs/licences.md.tmp
	mv docs/licences.md.tmp docs/licences.md

constraints: ## Resolve every dependency anew and write constraints.txt
	$(call install,.venv-constraints,.[train$(comma)loadtest$(comma)otel$(comma)dev])
	{ echo "# Written by 'make constraints' on Python 3.11, Linux x86-64: every version that any extra brings."; \
		.venv-constraints/bin/python -m pip freeze --all --exclude pip --exclude-editable \
		| sed 's/+cpu$$//'; } > $@.tmp  # indexes may lack the local version that names a build without CUDA
	mv $@.tmp constraints.txt
	rm -rf .venv-constraints
	$(MAKE) lock

# For Linux, with the hashes of every platform's files. setuptools is there to build the project without the index.
lock: ## Write requirements-serve.lock: what serving needs, at the versions of constraints.txt, with hashes
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| .venv-lock/bin/uv pip compile --quiet --python-version 3.11 --python-platform linux --constraint constraints.txt \
		--generate-hashes --annotation-style line --custom-compile-command 'make lock' --output-file requirements-serve.lock \
		pyproject.toml -

clean: ## Remove the virtual environments and every cache
	rm -rf .venv-serve .venv-dev .venv-constraints .venv-licences .venv-lock .venv-sbom .venv-mutation mutants *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find models export service loadtest tests -name __pycache__ -prune -exec rm -rf {} +

$(SERVE)/.installed: pyproject.toml requirements-serve.lock
	$(call create,$(SERVE))
	$(call pip,$(SERVE)) --require-hashes --requirement requirements-serve.lock
	$(call pip,$(SERVE)) --no-deps --no-build-isolation --editable .
	touch $@

$(DEV)/.installed: pyproject.toml constraints.txt
	$(call install,$(DEV),.[train$(comma)loadtest$(comma)otel$(comma)dev],--constraint constraints.txt)
	touch $@

# Its tools beside everything of $(DEV), whose packages it finds by a .pth file.
$(MUTATION)/.installed: $(DEV)/.installed
	$(PYTHON) -m venv --clear --without-pip $(MUTATION)
	$(RUN) pip --python $(MUTATION)/bin/python install --quiet --disable-pip-version-check --constraint constraints.txt coverage==7.17.5 mutmut==3.8.1
	folder() { "$$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }; \
		echo "import site; site.addsitedir('$$(folder $(DEV)/bin/python)')" > "$$(folder $(MUTATION)/bin/python)/dev.pth"
	touch $@

comma := ,

# create(venv): starts from nothing, so that a half-made environment is never built upon
define create
@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "halfdepth needs Python 3.11 or later with its venv module (on Debian: apt-get install python3-venv);" \
		"'$(PYTHON)' has not: name another by make PYTHON=..." >&2; exit 2; }
$(PYTHON) -m venv --clear $(1)
endef

pip = $(1)/bin/python -m pip install --quiet --disable-pip-version-check

# install(venv, requirement, pip options)
define install
$(call create,$(1))
$(call pip,$(1)) $(3) --editable '$(2)'
endef
