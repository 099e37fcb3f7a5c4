# Verbs for users and developers; `make help` lists them. Needs Python >= 3.11 and make, nothing else.

PYTHON ?= python3
VENV ?= .venv
MINUTES ?= 5
# Processes that the tests are shared among: half of what a test does is waiting, so one more than two cores.
JOBS ?= 3
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# One intra-op thread: the tests are about results, and the pipeline's own threads are the parallelism.
export OMP_NUM_THREADS ?= 1
# The program is started a hundred times by the tests: Python is to compile it once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all faults soak fuzz lint types check bench accuracy live live-long tracker observer schedule arrivals clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(READY) ## make the environment in .venv (about 6 GB: PyTorch with its CUDA libraries)

$(READY): pyproject.toml constraints.txt scripts/check_cv2.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo 'Python 3.11, 3.12 or 3.13 is needed; name one with: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	$(BIN)/python scripts/check_cv2.py
	@touch $@

demo: $(READY) ## replay sample_videos/ with the built-in people detector into runs/demo
	$(BIN)/pipeline replay sample_videos --model builtin:people --save jsonl,video --out runs/demo

test: $(READY) ## the fast test suite (under 5 minutes)
	$(PYTEST) -m 'not slow'

test-all: $(READY) ## every test, the slow ones too
	$(PYTEST)

faults: $(READY) ## faults injected for real, the slow ones too (about 10 minutes)
	$(BIN)/python -m pytest -n 2 tests/faults

soak: $(READY) ## a daemon with a fault every few seconds: make soak MINUTES=5
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

fuzz: $(READY) ## a hundred times the damage and odd input of the fast suite (about 3 minutes)
	FUZZ=100 $(BIN)/python -m pytest -n 2 tests/fuzz

lint: $(READY) ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## static types
	$(BIN)/mypy

check: lint types test ## what the gate runs, but for the demo

bench: $(READY) ## the pipeline against its floors and against plain loops
	$(BIN)/pipeline bench

accuracy: $(READY) ## recall and precision of the built-in detector on sample_videos/
	$(BIN)/python -m benchmarks.accuracy

live: $(READY) ## four live cameras, then the loop that people write by hand: how old is a result?
	$(BIN)/python -m benchmarks.live --cameras 4 --seconds 30 --peer --expect 'processed>=0.999' 'p50<=100' 'p99<=160' 'reconnects<=0'

live-long: $(READY) ## 32 cameras at 2 frames a second each, for ten minutes
	$(BIN)/python -m benchmarks.live --cameras 32 --ask 2 --skip auto --seconds 600 --warm 10 \
		--expect 'processed>=0.95' 'p99<=1000' 'rss_growth<=4' 'reconnects<=0' 'stalls<=0'

tracker: $(READY) ## what measuring costs a frame
	$(BIN)/python -m benchmarks.tracker --expect 'way<=5' 'all<=25' 'core<=1'

observer: $(READY) ## are the ages of results those that an observer sees, who reads times from the pixels?
	$(BIN)/python -m benchmarks.observer --of pattern --expect 'p50<=1' 'p99<=3'
	$(BIN)/python -m benchmarks.observer --of rtsp
	$(BIN)/python -m benchmarks.observer --of rtsp --isolation process --expect 'p50_left<=1' 'p99<=3'

# `live.jitter` is not met: without a playout delay it is 3 to 6 ms (design/scheduling.md); `steady` has one.
schedule: $(READY) ## eight cameras at 65 % of what this machine can do, then three times as much: the schedule's promises
	$(BIN)/python -m benchmarks.schedule --expect 'live.p99_over_stages<=3' 'live.jitter<=8' 'live.dropped<=0' \
		'steady.jitter<=3' 'steady.p99_over_live<=3' 'steady.dropped<=0' \
		'overload.p95_over_bound<=1' 'overload.growth<=1.1' 'overload.fairness>=0.98' 'overload.recovery<=5' 'weighted.shares<=0.1'

arrivals: $(READY) ## eight cameras are recorded and played twice on a virtual clock: the same to the byte, and how fast?
	$(BIN)/python -m benchmarks.arrivals --cameras 8 --fps 15 --expect 'speed>=0.7'
	$(BIN)/python -m benchmarks.arrivals --cameras 8 --fps 15 --isolation process
	$(BIN)/python -m benchmarks.arrivals --cameras 8 --fps 30 --seconds 45 --expect 'going>=1'

clean: ## remove outputs and caches, keep the environment
	rm -rf runs out .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
