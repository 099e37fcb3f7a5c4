# SPDX-License-Identifier: Apache-2.0
"""What ``map_location`` does not get right about a program that was stored on one device and runs on another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def move_constants(module: torch.jit.ScriptModule, device: torch.device) -> int:
    """Let every device that a program names be ``device``; to be called before it runs for the first time.

    ``map_location`` moves a file's tensors, not the words ``device="cpu"`` that tracing wrote into the code wherever
    a tensor was made, such as the anchors of a head. On a GPU they would meet tensors from there, and the model fail.

    Returns:
        how many were changed.
    """
    changed = 0
    for _, graph in _programs(module):
        for node in graph.findAllNodes("prim::Constant"):
            named = node.output().type().kind() == "DeviceObjType" and node.hasAttribute("value")
            if named and node.s("value") != str(device):
                node.s_("value", str(device))
                changed += 1
    return changed


def keep_lists(module: torch.jit.ScriptModule) -> int:
    """Take the tensors in lists that modules hold back to the CPU; returns how many lists there are.

    ``Module.to`` leaves such lists alone, so the code that uses them expects them where they were made: torchvision's
    SSD puts its list of anchor sizes and a fresh tensor together on the CPU. ``map_location`` moves them.
    """
    found = set()
    for part, graph in _programs(module):
        itself = next(graph.inputs()).debugName()
        for node in graph.findAllNodes("prim::GetAttr"):
            if str(node.output().type()) == "List[Tensor]" and node.input().debugName() == itself:
                found.add((part, node.s("name")))
    for part, name in found:
        setattr(part, name, [tensor.cpu() for tensor in getattr(part, name)])
    return len(found)


def _programs(module: torch.jit.ScriptModule) -> Iterator[tuple[torch.nn.Module, Any]]:
    """The graph of every method of every module inside."""
    for part in module.modules():
        program: Any = getattr(part, "_c", None)
        if program is not None:
            for name in program._method_names():
                yield part, program._get_method(name).graph
