# SPDX-License-Identifier: Apache-2.0
"""What a torch.export archive (.pt2) holds, from its JSON members alone: graph, inputs, limits, weights."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from pipeline.detectors.loading.members import printable
from pipeline.errors import ModelLoadError
from pipeline.workshop.inspection.reading import Members

# Numbers of torch/_export/serde/schema.py, ScalarType.
_DTYPES: dict[int, tuple[str, int]] = {
    1: ("uint8", 1),
    2: ("int8", 1),
    3: ("int16", 2),
    4: ("int32", 4),
    5: ("int64", 8),
    6: ("float16", 2),
    7: ("float32", 4),
    8: ("float64", 8),
    9: ("complex32", 4),
    10: ("complex64", 8),
    11: ("complex128", 16),
    12: ("bool", 1),
    13: ("bfloat16", 2),
    28: ("uint16", 2),
    29: ("float8_e4m3fn", 1),
    30: ("float8_e5m2", 1),
}
_SYMBOL = re.compile(r"Symbol\('(\w+)'[^()]*\)")
_MOST_JSON = 32 << 20  # as objects of Python ten times as much
_BUILT_IN = frozenset({"aten", "prim", "prims", "quantized", "quantized_decomposed", "torchvision", "higher_order"})


def read_exported(members: Members) -> dict[str, Any]:
    """Describe the archive; raises ModelLoadError where its JSON is damaged.

    Returns:
        ``forward``, ``dynamic``, ``operators``, ``control_flow``, ``tensors`` and ``compiled``, see
        :func:`pipeline.workshop.inspection.inspecting.inspect_model`.
    """
    compiled = [inner for inner in members.infos if inner.endswith((".so", ".cubin"))]
    programs = [inner for inner in members.below("models/") if inner.endswith(".json")]
    told: dict[str, Any] = {
        "forward": None,
        "dynamic": {},
        "operators": {"calls": 0, "distinct": 0, "other_libraries": {}, "custom": {}},
        "control_flow": {"if": 0, "for": 0, "while": 0},
        "tensors": {"parameters": {}, "buffers": {}, "constants": {}},
        "compiled": sorted(compiled),
    }
    try:
        if programs:
            told |= _graph(_object(members, programs[0]))
        told["tensors"] = _weights(members)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as exc:
        raise ModelLoadError(f"{members.name}: its description of the program is damaged; export it again") from exc
    return told


def _object(members: Members, inner: str) -> dict[str, Any]:
    try:
        value = json.loads(members.read(inner, _MOST_JSON))
    except (ValueError, RecursionError) as exc:
        raise ModelLoadError(f"{members.name}: {printable(inner)} is not valid JSON; export it again") from exc
    if not isinstance(value, dict):
        raise ModelLoadError(f"{members.name}: {printable(inner)} is not a JSON object; export it again")
    return value


def _graph(program: dict[str, Any]) -> dict[str, Any]:
    module = program["graph_module"]
    graph, signature = module["graph"], module["signature"]
    calls = Counter(_operator(str(node["target"])) for node in graph["nodes"])
    spaces = {name: name.partition("::")[0] for name in calls}
    inputs = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
    names = [arg["as_tensor"]["name"] for arg in inputs if "as_tensor" in arg]
    shown = ", ".join(f"{printable(name, 40)}: {_shape(graph['tensor_values'].get(name))}" for name in names)
    results = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
    returned = [arg["as_tensor"]["name"] for arg in results if "as_tensor" in arg]
    gives = ", ".join(_shape(graph["tensor_values"].get(name)) for name in returned)
    limits = {
        printable(str(symbol), 40): [bounds.get("min_val"), bounds.get("max_val")]
        for symbol, bounds in program.get("range_constraints", {}).items()
    }
    return {
        "forward": f"({shown}) -> {gives}",
        "dynamic": limits,
        "operators": {
            "calls": sum(calls.values()),
            "distinct": len(calls),
            "other_libraries": {name: n for name, n in sorted(calls.items()) if spaces[name] == "torchvision"},
            "custom": {name: n for name, n in sorted(calls.items()) if spaces[name] not in _BUILT_IN},
        },
        "control_flow": {
            "if": calls["higher_order::cond"],
            "for": calls["higher_order::scan"] + calls["higher_order::map_impl"],
            "while": calls["higher_order::while_loop"],
        },
    }


def _operator(target: str) -> str:
    """``torch.ops.aten.conv2d.default`` is ``aten::conv2d``; Python's operators on sizes are ``prim``."""
    words = printable(target).removeprefix("torch.ops.").split(".")
    if target.startswith("torch.ops.") and len(words) >= 2:
        return f"{words[0]}::{words[1]}"
    return f"prim::{words[-1]}"


def _shape(value: Any) -> str:
    if not isinstance(value, dict):
        return "?"
    sizes = []
    for size in value["sizes"]:
        expression = size.get("as_expr")
        sizes.append(_symbol(str(expression["expr_str"])) if expression else str(int(size["as_int"])))
    return f"{_DTYPES.get(value['dtype'], ('?', 1))[0]} [{', '.join(sizes)}]"


def _symbol(expression: str) -> str:
    """``2*Symbol('s31', positive=True, integer=True)`` is ``2*s31``."""
    return printable(_SYMBOL.sub(r"\1", expression[:2000]), 60)


def _weights(members: Members) -> dict[str, dict[str, dict[str, int]]]:
    told: dict[str, dict[str, dict[str, int]]] = {"parameters": {}, "buffers": {}, "constants": {}}
    for folder in ("weights", "constants"):
        for inner in members.below(f"data/{folder}/"):
            if not inner.endswith("_config.json"):
                continue
            for entry in _object(members, inner)["config"].values():
                parameter = "parameters" if entry.get("is_param") else "buffers"
                kind = "constants" if folder == "constants" else parameter
                _count(told[kind], entry, members, f"data/{folder}/{entry.get('path_name')}")
    return told


def _count(counted: dict[str, dict[str, int]], entry: dict[str, Any], members: Members, inner: str) -> None:
    meta = entry.get("tensor_meta")
    if not isinstance(meta, dict):
        return
    dtype, width = _DTYPES.get(meta["dtype"], ("?", 1))
    values = math.prod(int(size.get("as_int", 1)) for size in meta["sizes"])
    of_type = counted.setdefault(dtype, {"tensors": 0, "values": 0, "bytes": 0})
    of_type["tensors"] += 1
    of_type["values"] += values
    of_type["bytes"] += members.infos[inner].file_size if inner in members.infos else values * width
