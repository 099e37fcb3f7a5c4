# SPDX-License-Identifier: Apache-2.0
"""Why a model file is larger than its weights: loops that tracing unrolled, tensors that it baked in, stored inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.figures import percent
from pipeline.workshop.inspection.program import Method, Program
from pipeline.workshop.inspection.tensors import TensorEntry

REPETITIONS = 50
"""A line that occurs so often in one method, but for its numbers, comes from a loop that was unrolled."""
SHARE = 0.1
"""Parts of a file below this share are not worth a word."""

_FORWARD_LINES = 200


def growth(
    size: int, sizes: Mapping[str, int], program: Program, constants: Sequence[TensorEntry], frozen: bool
) -> list[dict[str, Any]]:
    """What makes a file grow, most bytes or lines first.

    Args:
        size: bytes of the file.
        sizes: bytes of each member in the file, packed as it is there.
        program: its code.
        constants: of ``constants.pkl``.
        frozen: it has no parameters, so that its constants are its weights.

    Returns:
        one ``{"what", "share", "text"}`` per finding, with ``bytes`` or ``lines``; ``share`` is of the file's bytes,
        or of the method's lines.
    """
    found = [*_unrolled(program.methods), *_stored(size, sizes)]
    if not frozen:
        found.extend(_baked(size, sizes, constants, program.constants))
    return sorted(found, key=lambda finding: -float(finding["share"]))


def _unrolled(methods: Iterable[Method]) -> list[dict[str, Any]]:
    found = []
    for method in methods:
        often = [count for count in method.forms.values() if count >= REPETITIONS]
        lines = sum(often)
        if method.lines < _FORWARD_LINES or lines < method.lines / 2:
            continue
        times = sorted(often)[len(often) // 2]
        where = f"{method.name} of {method.owner.removeprefix('__torch__.')}"
        text = (
            f"{lines:,} of {method.lines:,} lines of {where} ({method.file}:{method.line}) are {len(often)} patterns "
            f"repeated about {times:,} times: a loop that tracing unrolled; script it, or compute it on whole tensors"
        )
        share = lines / method.lines
        found.append({"what": "unrolled loop", "lines": lines, "share": round(share, 4), "text": text})
    return found


def _baked(
    size: int, sizes: Mapping[str, int], constants: Sequence[TensorEntry], used: Mapping[str, str]
) -> list[dict[str, Any]]:
    found = []
    for index, tensor in enumerate(constants):
        stored = sizes.get(f"constants/{tensor.storage}", tensor.storage_bytes)
        if stored < SHARE * size:
            continue
        where = f", first used at {used[f'c{index}']}" if f"c{index}" in used else ""
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        text = (
            f"CONSTANTS.c{index} ({tensor.dtype} {shape}, {stored:,} bytes{where}) is {percent(stored / size)} of the "
            "file: a tensor that was baked in; make it a buffer, or compute it when the module runs"
        )
        found.append({"what": f"CONSTANTS.c{index}", "bytes": stored, "share": round(stored / size, 4), "text": text})
    return found


def _stored(size: int, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    parts = {
        "example inputs": ("traced_inputs/", "data/sample_inputs/"),
        "code": ("code/",),
    }
    found = []
    for what, folders in parts.items():
        stored = sum(bytes_ for inner, bytes_ in sizes.items() if inner.startswith(folders))
        if stored >= SHARE * size and stored > 1 << 20:
            text = f"{what}: {stored:,} bytes, {percent(stored / size)} of the file"
            found.append({"what": what, "bytes": stored, "share": round(stored / size, 4), "text": text})
    return found
