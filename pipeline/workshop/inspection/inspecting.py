# SPDX-License-Identifier: Apache-2.0
"""What is inside a model file, told without running, loading or unpickling any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pipeline.detectors.loading.formats import describe_zip
from pipeline.detectors.loading.members import printable
from pipeline.detectors.loading.metadata import read_metadata
from pipeline.errors import ModelLoadError
from pipeline.workshop.inspection.exported import read_exported
from pipeline.workshop.inspection.growth import growth
from pipeline.workshop.inspection.pickles import Walk
from pipeline.workshop.inspection.program import Program, read_program
from pipeline.workshop.inspection.reading import Members, opened
from pipeline.workshop.inspection.tensors import TensorEntry, class_of, summarised, tensors_in

_LARGEST = 5
_LONGEST_SIDE_FILE = 1 << 20
_MOST_SIDE_FILES = 50
_SAFE_GLOBALS = ("torch", "__torch__", "collections")

Format = Literal["torchscript", "lite", "pt2"]


def inspect_model(path: Path, *, code: bool = False) -> dict[str, Any]:
    """Describe a TorchScript file, its lite variant, or a torch.export archive. Needs no torch.

    Args:
        path: the file.
        code: put the text of its code into the answer, too.

    Returns:
        a JSON object; see ``pipeline model inspect --help`` and docs/detectors.md for its keys.

    Raises:
        ModelLoadError: the file cannot be read, is something else, is damaged, or would need too much to be read.
    """
    with opened(path) as members:
        kind = _format(members)
        members.check()  # torch does not compare checksums
        sizes = {inner: info.file_size for inner, info in members.infos.items()}
        told: dict[str, Any] = {
            "path": members.name,
            "format": kind,
            "bytes": members.size,
            "sha256": members.sha256,
            "world_writable": members.world_writable,
            "members": _members(members, sizes),
        }
        doubts = list(members.doubts)
        if kind == "pt2":
            told |= read_exported(members)
            told["growth"] = growth(members.size, _packed(members), Program(), (), True)
        else:
            told |= _script(members, sizes, doubts, code)
        told["metadata"] = _metadata(members, doubts)
    if told["operators"]["custom"]:
        doubts.append(f"it needs operators of a library of its own: {', '.join(told['operators']['custom'])}")
    if told.get("compiled"):
        doubts.append("it holds machine code, which nothing here can look into")
    if told["world_writable"]:
        doubts.append(
            "every user of this machine can change this program: without model.sha256 it is refused; remedy: chmod o-w"
        )
    return {**told, "warnings": doubts}


def _format(members: Members) -> Format:
    inner = set(members.infos)
    code = any(name.startswith("code/") for name in inner)
    if "bytecode.pkl" in inner:
        return "lite"
    if "constants.pkl" in inner and code:
        return "torchscript"
    if "archive_format" in inner or any(name.startswith("models/") for name in inner):
        return "pt2"
    pickled = members.read("data.pkl") if "data.pkl" in inner else b""
    names = [info.filename for info in members.infos.values()]
    found, remedy = describe_zip(names, pickled)
    raise ModelLoadError(f"{members.name}: this is {found}; a TorchScript or .pt2 file was expected. Remedy: {remedy}")


def _script(members: Members, sizes: dict[str, int], doubts: list[str], code: bool) -> dict[str, Any]:
    sources = {
        inner.removeprefix("code/"): members.text(inner) for inner in members.below("code/") if inner.endswith(".py")
    }
    try:
        program = read_program(sources)
    except ValueError as exc:
        raise ModelLoadError(f"{members.name}: {exc}: refused") from exc
    root, attributes = _tensors(members, "data.pkl", doubts)
    _, constants = _tensors(members, "constants.pkl", doubts)
    main = [method for method in program.methods if method.owner == root]
    by_name = {method.name: method.signature for method in main}
    kinds: dict[str, list[TensorEntry]] = {"parameters": [], "buffers": []}
    for tensor in attributes:
        attribute = tensor.name.rpartition(".")[2]
        declared = attribute in program.parameters.get(tensor.owner, frozenset())
        kinds["parameters" if declared else "buffers"].append(tensor)
    if program.file_access:
        doubts.append(f"its code would be refused: {program.file_access}")
    torchvision = {name: n for name, n in sorted(program.operators.items()) if name.startswith("torchvision::")}
    told: dict[str, Any] = {
        "forward": by_name.get("forward"),
        "code": {
            "files": program.files,
            "lines": program.lines,
            "bytes": sum(sizes[f"code/{file}"] for file in sources),
            "methods": [
                {"owner": method.owner, "name": method.name, "signature": method.signature, "lines": method.lines}
                for method in program.methods
            ],
            **({"text": sources} if code else {}),
        },
        "main": {"class": root, "methods": by_name},
        "control_flow": {kind: program.branches[kind] for kind in ("if", "for", "while")},
        "operators": {
            "calls": sum(program.operators.values()),
            "distinct": len(program.operators),
            "quantized": any(name.partition("::")[0].endswith("quantized") for name in program.operators),
            "other_libraries": torchvision,
            "custom": program.custom(),
        },
        "tensors": {
            **{kind: summarised(found, _storages(sizes, "data/")) for kind, found in kinds.items()},
            "constants": summarised(constants, _storages(sizes, "constants/")),
        },
        "baked_shapes": [
            {
                "operator": baked.operator,
                "shape": baked.shape,
                "batch": baked.batch,
                "at": f"{baked.file}:{baked.line}",
            }
            for baked in program.baked
        ],
    }
    told["growth"] = growth(members.size, _packed(members), program, constants, not kinds["parameters"])
    return told


def _tensors(members: Members, inner: str, doubts: list[str]) -> tuple[str, list[TensorEntry]]:
    """The class of what a pickle describes, and its tensors."""
    if inner not in members.infos:
        return "", []
    try:
        walk = Walk(members.read(inner))
    except ValueError as exc:
        raise ModelLoadError(f"{members.name}: {inner} cannot be read: {printable(str(exc))}") from exc
    foreign = [
        printable(f"{named.module}.{named.name}")
        for named in walk.globals.values()
        if named.module.partition(".")[0] not in _SAFE_GLOBALS
    ]
    if foreign:
        doubts.append(f"{inner} names what has no place in a model: {', '.join(foreign[:5])}")
    return class_of(walk.root), tensors_in(walk.root)


def _metadata(members: Members, doubts: list[str]) -> dict[str, Any]:
    """The side files, and what the pipeline takes from them."""
    texts = {
        inner.removeprefix("extra/"): members.text(inner)
        for inner in members.below("extra/")[:_MOST_SIDE_FILES]
        if members.infos[inner].file_size <= _LONGEST_SIDE_FILE
    }
    told: dict[str, Any] = {"files": {}, "source": None}
    for name, text in texts.items():
        try:
            told["files"][name] = json.loads(text)
        except (ValueError, RecursionError):
            told["files"][name] = text[:2000]
    try:
        facts = read_metadata(texts, members.name)
    except (ModelLoadError, RecursionError) as exc:
        doubts.append(printable(str(exc).removeprefix(f"{members.name}: ")))
        return told
    if facts.source:
        told |= {
            "source": facts.source,
            "adapter": facts.adapter,
            "names": {str(class_id): label for class_id, label in facts.names.items()},
            "input": list(facts.size) if facts.size else None,
            "stride": facts.stride,
            "fixed_batch": facts.fixed_batch,
            "fixed_size": facts.fixed_size,
        }
    return told


def _members(members: Members, sizes: dict[str, int]) -> dict[str, Any]:
    folders: dict[str, int] = {}
    for inner, size in sizes.items():
        folder = inner.partition("/")[0] + "/" if "/" in inner else inner
        folders[printable(folder)] = folders.get(printable(folder), 0) + size
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:_LARGEST]
    return {
        "count": len(sizes),
        "bytes": sum(sizes.values()),
        "folders": dict(sorted(folders.items(), key=lambda item: -item[1])[:20]),
        "largest": [{"name": printable(name), "bytes": size} for name, size in largest],
    }


def _storages(sizes: dict[str, int], folder: str) -> dict[str, int]:
    return {inner.removeprefix(folder): size for inner, size in sizes.items() if inner.startswith(folder)}


def _packed(members: Members) -> dict[str, int]:
    return {inner: info.compress_size for inner, info in members.infos.items()}
