# SPDX-License-Identifier: Apache-2.0
"""The code inside a TorchScript file, read as text: classes, signatures, control flow, operators, baked shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.detectors.loading.file_access import file_access

_CLASS = re.compile(r"class (\w+)\(")
_DEF = re.compile(r"(| {2})def (\w+)\(")  # functions and methods; what is deeper is none of TorchScript's
_ATTRIBUTES = re.compile(r"  __(parameters|buffers)__ = \[([^\]]*)\]")
_NAME = re.compile(r'"([^"]*)"')
_BRANCH = re.compile(r" +(if|elif|for|while)\b")
_OPERATOR = re.compile(r"(?<![\w.])(?:ops\.(\w+)\.(\w+)|torch\.(\w+))\(")
_SHAPED = re.compile(
    r"\btorch\.(reshape|view|_unsafe_view|expand|repeat|zeros|ones|full|empty)\(([^\[\]]{0,300})\[([^\[\]]{0,300})\]"
)
_NUMBER = re.compile(r"\d+")
_BUILT_IN = frozenset({"aten", "prim", "quantized", "_quantized", "torchvision"})
_LONGEST_LINE = 20_000
_LONGEST_HEAD = 200  # lines of a signature
_MOST_BAKED = 10_000

MOST_LINES = 1_000_000
"""Lines of code in all; a traced loop of a thousand rounds has some ten thousand."""
MOST_METHODS = 50_000


@dataclass(frozen=True, slots=True)
class Method:
    """One method or function.

    Attributes:
        owner: qualified name of its class, ``__torch__.package.Class``; of its module for a function.
        name: such as ``forward``.
        signature: ``(x: Tensor) -> Tensor``, without self.
        file: path of the file in the archive, without ``code/``.
        line: where it begins there, from 1.
        lines: how many lines it has.
        forms: how many of its lines have each form (see :func:`form`).
    """

    owner: str
    name: str
    signature: str
    file: str
    line: int
    lines: int
    forms: Counter[str]


@dataclass(frozen=True, slots=True)
class Baked:
    """A shape with literal sizes.

    Attributes:
        operator: such as ``reshape``.
        shape: as written, such as ``[1, 84, 8400]``.
        batch: its first size, that of the batch, is literal too.
        file, line: where.
    """

    operator: str
    shape: str
    batch: bool
    file: str
    line: int


@dataclass(slots=True)
class Program:
    """All code of one file.

    Attributes:
        files: number of files.
        lines: in all of them.
        methods: in the order of the files.
        parameters, buffers: names of such attributes, by qualified name of the class.
        branches: how often ``if``, ``for`` and ``while`` occur.
        operators: calls by qualified name, ``aten::relu``; of torch's own only what its code calls as ``torch.x``.
        baked: shapes with literal sizes.
        constants: first use of each constant, ``c12`` -> ``file:line``.
        file_access: how it reads and writes files of this machine; empty where it does not.
    """

    files: int = 0
    lines: int = 0
    methods: list[Method] = field(default_factory=list)
    parameters: dict[str, frozenset[str]] = field(default_factory=dict)
    buffers: dict[str, frozenset[str]] = field(default_factory=dict)
    branches: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    baked: list[Baked] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)
    file_access: str = ""

    def custom(self) -> dict[str, int]:
        """Operators of neither torch nor torchvision: without their library the file cannot be loaded."""
        return {name: n for name, n in sorted(self.operators.items()) if name.split("::")[0] not in _BUILT_IN}


def read_program(sources: Mapping[str, str]) -> Program:
    """Read all code.

    Args:
        sources: text by path below ``code/``.

    Raises:
        ValueError: there are more than ``MOST_LINES`` lines or ``MOST_METHODS`` methods.
    """
    program = Program(files=len(sources))
    for file, text in sources.items():
        program.lines += text.count("\n") + (not text.endswith("\n"))
        if program.lines > MOST_LINES:
            raise ValueError(f"its code has more than {MOST_LINES:,} lines")
        lines = text.removesuffix("\n").split("\n")  # splitlines would split at other characters, too
        program.file_access = program.file_access or file_access(text)
        module = file.removesuffix(".py").replace("/", ".")
        _read_file(program, file, module, lines)
    return program


def form(line: str) -> str:
    """A line without its numbers: what an unrolled loop repeats."""
    return _NUMBER.sub("#", line.strip()[:500])


def _read_file(program: Program, file: str, module: str, lines: list[str]) -> None:
    owner = module
    for number, line in _short_enough(lines):
        found = _CLASS.match(line)
        if found:
            owner = f"{module}.{found.group(1)}"
            continue
        found = _DEF.match(line)
        if found:
            inside = owner if found.group(1) else module
            if len(program.methods) >= MOST_METHODS:
                raise ValueError(f"its code has more than {MOST_METHODS:,} methods")
            program.methods.append(_method(inside, found.group(2), file, number, lines))
            continue
        found = _ATTRIBUTES.match(line)
        if found:
            kept = program.parameters if found.group(1) == "parameters" else program.buffers
            kept[owner] = frozenset(_NAME.findall(found.group(2)))
            continue
        _read_statement(program, file, number, line)


def _read_statement(program: Program, file: str, number: int, line: str) -> None:
    branch = _BRANCH.match(line)
    if branch:
        program.branches["if" if branch.group(1) == "elif" else branch.group(1)] += 1
    for space, operator, own in _OPERATOR.findall(line):
        program.operators[f"{space}::{operator}" if space else f"aten::{own}"] += 1
    for operator, _, sizes in _SHAPED.findall(line):
        known = [size.strip() for size in sizes.split(",")]
        if len(program.baked) < _MOST_BAKED and any(size.isdecimal() and int(size[:9]) > 1 for size in known):
            shape = f"[{', '.join(known)}]"
            program.baked.append(Baked(operator, shape, known[0].isdecimal(), file, number))
    if "CONSTANTS.c" in line:
        for name in re.findall(r"\bCONSTANTS\.(c\d{1,9})\b", line):
            program.constants.setdefault(name, f"{file}:{number}")


def _method(owner: str, name: str, file: str, number: int, lines: list[str]) -> Method:
    """The method that begins at ``number``; its head may go over several lines and ends with a colon."""
    indent = len(lines[number - 1]) - len(lines[number - 1].lstrip(" "))
    head = number
    most = min(len(lines), number + _LONGEST_HEAD)
    while not lines[head - 1].endswith(":") and head < most and not _DEF.match(lines[head]):
        head += 1
    signature = " ".join(line[:500].strip() for line in lines[number - 1 : head]).removesuffix(":")[:5000]
    signature = signature.partition("(")[2]
    first, _, rest = signature.partition(",")
    if first.startswith("self"):
        signature = rest.lstrip() if "," in signature else signature[signature.find(")") :]
    last = head
    while last < len(lines) and (not lines[last].strip() or len(lines[last]) - len(lines[last].lstrip(" ")) > indent):
        last += 1
    body = lines[head:last]
    forms = Counter(form(line) for line in body if line.strip())
    return Method(owner, name, f"({signature}", file, number, last - number + 1, forms)


def _short_enough(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; of monstrous ones only the beginning."""
    for number, line in enumerate(lines, 1):
        yield number, line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE]
