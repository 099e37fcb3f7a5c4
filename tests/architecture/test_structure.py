# SPDX-License-Identifier: Apache-2.0
"""House rules as tests: imports run one way, clocks have one home, files stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline

ROOT = Path(pipeline.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# From the ground up. A room may import rooms of lower floors only; rooms of one floor know nothing of each other.
FLOORS: list[set[str]] = [
    {"cores", "errors", "figures", "kineto", "measures", "orphans", "redact", "replacing", "timing"},
    {"caches", "complaints", "footprint", "frame", "threads"},
    {"crew", "events"},
    {"config", "lanes", "memory", "service"},
    {"protocols"},
    {"ledger"},
    {
        "agreement",
        "batching",
        "ordering",
        "stream",
        "outlet",
        "shadow",
        "sources",
        "stages",
        "detectors",
        "sinks",
        "testing",
    },
    {"arrivals", "inference", "naming", "preparing", "publishing", "roster"},
    {"deployment"},
    {"lineup"},
    {"turns"},
    {"flow"},
    {"build"},
    {"replaying", "daemon", "report", "metrics", "telemetry", "web", "workshop"},
    {"bench"},
    {"plan"},
    {"cli"},
    {"__init__", "__main__"},
]


def room(module: str) -> str:
    """The room of ``pipeline.a.b`` is ``a``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(path: Path) -> str:
    parts = ["pipeline", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path) for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "pipeline")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            for name in node.names:
                module = f"{node.module}.{name.name}"  # `from pipeline import build` names a module
                yield module if module in MODULES or node.module == "pipeline" else node.module


def floor(name: str) -> int:
    found = [index for index, rooms in enumerate(FLOORS) if name in rooms]
    assert found, f"the room {name!r} has no floor: add it to FLOORS"
    return found[0]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_run_one_way(path: Path) -> None:
    here = room(module_of(path))
    for imported in imports(path):
        there = room(imported)
        if there not in (here, "__init__"):
            assert floor(there) < floor(here), f"{module_of(path)} must not import {imported}"


def test_no_import_cycle() -> None:
    # The package itself only names its public modules; it loads them when they are asked for.
    graph = {module_of(path): set(imports(path)) for path in FILES if path != ROOT / "__init__.py"}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle of imports: {' -> '.join((*trail, module))}"
        if module not in done:
            for imported in graph.get(module, ()):
                if imported != module:
                    visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


CLOCKS = re.compile(r"\btime\.(time|monotonic|perf_counter|process_time)|datetime\.(now|utcnow|today)|\btime\.sleep")


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_timing_reads_clocks_and_nobody_sleeps(path: Path) -> None:
    if room(module_of(path)) != "timing":
        found = CLOCKS.search(path.read_text())
        assert found is None, f"{module_of(path)} uses {found.group() if found else ''}"
    assert "time.sleep" not in path.read_text()


def test_files_are_small() -> None:
    lengths = {module_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {module: length for module, length in lengths.items() if length > 400} == {}
    assert sorted(lengths.values())[len(lengths) // 2] < 150, "median file length"


def test_no_vague_rooms() -> None:
    for path in FILES:
        assert path.stem not in {"utils", "util", "helpers", "common", "misc", "manager"}, path


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_file_states_licence_and_purpose(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert ast.get_docstring(ast.parse(text))
