# SPDX-License-Identifier: Apache-2.0
"""House rules as tests: imports run one way, clocks have one home, files stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline
from pipeline.cli import COMMANDS

ROOT = Path(pipeline.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# From the ground up. A room may import rooms of lower floors only; rooms of one floor know nothing of each other.
FLOORS: list[set[str]] = [
    {"errors", "figures", "measures", "redact", "timing"},
    {"complaints", "frame", "host", "threads"},
    {"events"},
    {"config", "protocols"},
    {"ledger"},
    {"detectors", "sinks", "sources", "stages", "testing"},
    {"arrivals", "flow"},
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


MODULES = {module_of(path): path for path in FILES}


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


def test_imports_run_one_way() -> None:
    upward = [
        f"{module} must not import {imported}"
        for module, path in MODULES.items()
        for imported in imports(path)
        if room(imported) not in (room(module), "__init__") and floor(room(imported)) >= floor(room(module))
    ]
    assert upward == []


def test_no_import_cycle() -> None:
    # The package itself only names its public modules; it loads them when they are asked for.
    graph = {module: set(imports(path)) for module, path in MODULES.items() if path != ROOT / "__init__.py"}
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


CLOCKS = re.compile(
    r"\btime\.(?:time|monotonic|perf_counter|process_time)|datetime\.(?:now|utcnow|today)|\btime\.sleep"
)


def test_only_timing_reads_clocks_and_nobody_sleeps() -> None:
    found = {module: CLOCKS.findall(path.read_text()) for module, path in MODULES.items() if room(module) != "timing"}
    assert {module: clocks for module, clocks in found.items() if clocks} == {}
    assert [module for module, path in MODULES.items() if "time.sleep" in path.read_text()] == []


def test_files_are_small() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length > 400} == {}
    assert sorted(lengths.values())[len(lengths) // 2] < 150, "median file length"


def test_tests_share_by_modules_that_are_no_tests() -> None:
    """Whoever imports from a test file is changed by changes of a test."""
    tests = ROOT.parent / "tests"
    found = [
        f"{path.relative_to(tests)}: {node.module}"
        for path in sorted(tests.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and re.search(r"\btest_", node.module or "")
    ]
    assert found == []


def test_no_vague_rooms() -> None:
    for path in FILES:
        assert path.stem not in {"utils", "util", "helpers", "common", "misc", "manager"}, path


MAPPED = (
    *("cli/capacity", "cli/files", "cli/live", "cli/program", "cli/terminal"),
    *("detectors", "host", "ledger", "sources"),
)
"""Rooms of many files: their ``__init__`` says which one is for what."""


@pytest.mark.parametrize("name", MAPPED)
def test_the_map_of_a_room_has_all_its_files(name: str) -> None:
    told = set(re.findall(r"``(\w+)``", ast.get_docstring(ast.parse((ROOT / name / "__init__.py").read_text())) or ""))
    there = {path.stem for path in (ROOT / name).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert told == there - {"__init__"}


def test_a_file_of_the_command_line_is_a_command_and_its_map_has_the_other_rooms() -> None:
    here = ROOT / "cli"
    told = set(re.findall(r"``(\w+)``", ast.get_docstring(ast.parse((here / "__init__.py").read_text())) or ""))
    rooms = {path.parent.name for path in here.glob("*/__init__.py")}
    assert told == rooms
    assert {path.stem for path in here.glob("*.py")} - {"__init__"} == COMMANDS.keys() - rooms


def test_the_map_of_the_flow_has_all_its_files() -> None:
    told = set(re.findall(r"`(\w+)`", (ROOT.parent / "CONTRIBUTING.md").read_text()))
    assert {path.stem for path in (ROOT / "flow").glob("*.py")} - {"__init__"} - told == set()


REFERENCE = re.compile(r":(?:mod|class|func|data|meth|attr):`~?(pipeline(?:\.\w+)+)`")


def leads_somewhere(reference: str) -> bool:
    """Whether it is a module, or a module has something of that name."""
    parts = reference.split(".")
    for count in range(len(parts), 0, -1):
        if (path := MODULES.get(".".join(parts[:count]))) is not None:
            return count == len(parts) or re.search(rf"\b{parts[count]}\b", path.read_text()) is not None
    return False


def test_references_in_docstrings_lead_somewhere() -> None:
    wrong = [
        f"{module}: {reference}"
        for module, path in MODULES.items()
        for reference in REFERENCE.findall(path.read_text())
        if not leads_somewhere(reference)
    ]
    assert wrong == []


def test_every_file_states_licence_and_purpose() -> None:
    texts = {module: path.read_text() for module, path in MODULES.items()}
    licence = "# SPDX-License-Identifier: Apache-2.0\n"
    assert [module for module, text in texts.items() if not text.startswith(licence)] == []
    assert [module for module, text in texts.items() if not ast.get_docstring(ast.parse(text))] == []
