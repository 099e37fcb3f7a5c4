# SPDX-License-Identifier: Apache-2.0
"""AOTInductor packages (.pt2): machine code, told from the bytes of a file what it takes, loaded and guarded.

A package runs with whatever it is given: other sizes or another memory layout than it was compiled for give wrong
numbers, or reads beyond the picture, in silence. What it was compiled for is in the source that travels with it.
"""

from __future__ import annotations

import io
import json
import platform
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import torch
from torch.utils._pytree import tree_map

from pipeline.detectors.loading.call_spec import read_call_spec
from pipeline.detectors.loading.export import silent_logs
from pipeline.detectors.loading.members import read_by_torch
from pipeline.detectors.loading.recipe import Recipe
from pipeline.detectors.loading.signature import Signature
from pipeline.detectors.loading.taken import ForAnotherDevice, Side, Taken
from pipeline.detectors.loading.unpacked import CODE, copied
from pipeline.detectors.torch_messages import one_line
from pipeline.errors import ModelLoadError
from pipeline.host.cores import allowed_cores

_LONGEST_SOURCE = 64 << 20
_GLUE = re.compile(r'"\s*<<\s*"')
_FACT = {
    "side": re.compile(r"input_handles\[(\d+)\]: unmatched dim value at (\d+), expected: (\d+)"),
    "least": re.compile(r"input_handles\[(\d+)\]: dim value is too small at (\d+), expected it to be >= (\d+)"),
    "most": re.compile(r"input_handles\[(\d+)\]: dim value is too large at (\d+), expected to be <= (\d+)"),
    "stride": re.compile(r"input_handles\[(\d+)\]: unmatched stride value at (\d+), expected: (\d+)"),
}
_CAPABILITY = {"AVX512": "avx512_f"}
"""What torch calls an instruction set, where that is not the word of a package in lower case."""
_EVERYWHERE = {"ASIMD", "VSX", "ZVECTOR", "INVALID_VEC_ISA"}
"""Each processor of its kind has these, and the kind is compared before."""
_DTYPE = re.compile(r"_expected_dtype = aoti_torch_dtype_(\w+)\(\)")


class CompiledModule(torch.nn.Module):
    """A package that is given nothing but what it was compiled for. Files in ``held`` stay open as long as it is."""

    def __init__(
        self, package: Callable[..., Any], taken: Taken, channels_last: bool, held: Sequence[BinaryIO] = ()
    ) -> None:
        super().__init__()
        self.package: Any = package
        self._held = held
        self.taken = taken
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, *given: Any) -> Any:
        """As the package; raises ValueError for an input that it was not compiled for."""
        first = given[0]
        if isinstance(first, list):
            for picture in first:
                self._check(picture)
            return self.package([self._laid_out(picture) for picture in first], *given[1:])
        count, least = len(first), _least(self.taken.shape[0])
        if count < least:  # torch compiles open batch sizes for 2 and more
            given = tuple(torch.cat([each, each[-1:].expand(least - count, *each.shape[1:])]) for each in given)
        self._check(given[0])
        outputs = self.package(self._laid_out(given[0]), *given[1:])
        return outputs if count >= least else tree_map(lambda each: _cut(each, least, count), outputs)

    def _laid_out(self, picture: torch.Tensor) -> torch.Tensor:
        """In the memory layout that it was compiled for, which torch knows of batches only."""
        if picture.dim() == 3:
            return picture.unsqueeze(0).contiguous(memory_format=self._layout).squeeze(0)
        return picture.contiguous(memory_format=self._layout)

    def _check(self, picture: torch.Tensor) -> None:
        shape, dtype = tuple(picture.shape), str(picture.dtype).removeprefix("torch.")
        sides = self.taken.shape
        if dtype != self.taken.dtype or len(shape) != len(sides) or not all(map(_within, shape, sides)):
            raise ValueError(
                f"it was compiled for {self.taken.dtype} {list(sides)}, but was given {dtype} {list(shape)}"
            )


def load_aotinductor(
    data: bytes, name: str, device: torch.device, recipe: Recipe
) -> tuple[torch.nn.Module, Signature, Taken]:
    """The module, how it is called, and what it was compiled for.

    Args:
        data: the whole file.
        name: how the messages call it.
        device: must be the kind of device that it was compiled for.
        recipe: cannot change machine code.

    Raises:
        ModelLoadError: it is for another machine, does not tell what it takes, or is not a detector.
    """
    if recipe.way != "as_is":
        raise ModelLoadError(f"{name}: {recipe.name} is not available for an AOTInductor package")
    module = load_package(data, name, device)
    try:
        text = module.package.loader.get_call_spec()[0]
    except (AttributeError, IndexError, RuntimeError) as exc:
        raise ModelLoadError(f"{name}: it does not say what it takes; compile it again") from exc
    signature, pictures = read_call_spec(text, name)
    return module, signature, replace(module.taken, pictures=pictures)


def load_package(data: bytes, name: str, device: torch.device) -> CompiledModule:
    """The module alone, which is given nothing but what it was compiled for.

    Args:
        data: the whole file.
        name: how the messages call it.
        device: must be the kind of device that it was compiled for.

    Raises:
        ModelLoadError: it is for another machine, or does not tell what it takes.
    """
    facts, sources = _read(data, name)
    _fits(facts, device, name)
    sides, strides, dtype = _input(sources, name)
    channels_last = _channels_last(sides, strides, name)
    package, held = _loaded(data, device, name)
    return CompiledModule(package, Taken(sides, dtype), channels_last, held)


def _read(data: bytes, name: str) -> tuple[dict[str, str], str]:
    """The machine that it is for, and the text of its wrapper."""
    facts: dict[str, str] = {}
    sources = ""
    file = io.BytesIO(data)
    with zipfile.ZipFile(file) as archive:
        members = read_by_torch(archive, file, name)
        for suffix in (".wrapper.cpp", "wrapper_metadata.json", ".wrapper.so"):
            found = [inner for inner in members if inner.startswith(CODE) and inner.endswith(suffix)]
            if len(found) > 1:
                raise ModelLoadError(f"{name}: it has {len(found)} members *{suffix}; one was expected: refused")
        for inner, info in members.items():
            if not inner.startswith(CODE) or info.file_size > _LONGEST_SOURCE:
                continue
            if inner.endswith("wrapper_metadata.json"):
                try:
                    facts = {key: str(value) for key, value in json.loads(archive.read(info)).items()}
                except (ValueError, AttributeError, RecursionError) as exc:
                    raise ModelLoadError(f"{name}: {inner} is damaged; compile it again") from exc
            elif inner.endswith(".wrapper.cpp"):
                sources = archive.read(info).decode("utf-8", "replace")
    return facts, sources


def _fits(facts: dict[str, str], device: torch.device, name: str) -> None:
    """Machine code of another machine would crash the process instead of raising."""
    here = {"AOTI_PLATFORM": sys.platform, "AOTI_MACHINE": platform.machine(), "AOTI_DEVICE_KEY": device.type}
    for key, value in here.items():
        if key in facts and facts[key] != value:
            message = f"{name}: this AOTInductor package was compiled for {facts[key]}, but this is {value}"
            if key == "AOTI_DEVICE_KEY":
                raise ForAnotherDevice(f"{message}; set device to {facts[key]}, or compile it for {value}")
            raise ModelLoadError(message)
    has = torch.cpu.get_capabilities()  # torch's own check of a package compiles C++ to find out
    lacking = [
        word
        for word in facts.get("AOTI_CPU_ISA", "").split()
        if word not in _EVERYWHERE and not has.get(_CAPABILITY.get(word, word.lower()))
    ]
    if device.type == "cpu" and lacking:
        raise ModelLoadError(
            f"{name}: this AOTInductor package needs a processor with {' '.join(lacking)}; compile it on this machine"
        )


def _input(sources: str, name: str) -> tuple[tuple[Side, ...], dict[int, int], str]:
    """Sides, strides and dtype of the first input, from the checks in the wrapper's source."""
    text = _GLUE.sub("", sources)
    found: dict[str, dict[int, int]] = {
        kind: {int(axis): int(value) for number, axis, value in fact.findall(text) if number == "0"}
        for kind, fact in _FACT.items()
    }
    axes = sorted({axis for kind in ("side", "least", "most") for axis in found[kind]})
    dtype = _DTYPE.search(text)
    if dtype is None or not axes or axes != list(range(len(axes))):
        raise ModelLoadError(
            f"{name}: this AOTInductor package does not tell what input it was compiled for, and would run with "
            "any, wrongly; compile it with torch._inductor.aoti_compile_and_package of this version of torch"
        )
    sides: list[Side] = []
    for axis in axes:
        fixed = found["side"].get(axis)
        sides.append((found["least"].get(axis, 0), found["most"].get(axis)) if fixed is None else fixed)
    return tuple(sides), found["stride"], dtype[1]


def _channels_last(sides: tuple[Side, ...], strides: dict[int, int], name: str) -> bool:
    """Whether channels lie next to each other in memory; else the picture must be contiguous."""
    channels = len(sides) - 3
    last = len(sides) - 1
    if strides.get(last) == 1 or not strides:
        return False
    if strides.get(channels) == 1 and strides.get(last) == sides[channels]:
        return True
    raise ModelLoadError(f"{name}: it was compiled for a memory layout with strides {strides}; contiguous was expected")


def _within(length: int, side: Side) -> bool:
    if isinstance(side, int):
        return length == side
    return side[0] <= length and (side[1] is None or length <= side[1])


def _least(side: Side) -> int:
    return 0 if isinstance(side, int) else side[0]


def _cut(output: Any, least: int, count: int) -> Any:
    """The part of an output that belongs to the first ``count`` of ``least`` pictures."""
    return output[:count] if isinstance(output, torch.Tensor) and output.dim() and len(output) == least else output


def _loaded(data: bytes, device: torch.device, name: str) -> tuple[Any, list[BinaryIO]]:
    """The package, and files that are to stay open as long as it is in use."""
    from torch._inductor import aoti_load_package

    try:
        with copied(data) as copy, silent_logs():
            kept = False
            try:
                package = aoti_load_package(
                    str(copy.path),
                    device_index=-1 if device.index is None else device.index,
                    num_runners=allowed_cores(),
                )
                kept = device.type != "cpu"  # kernels of a GPU are read from it when they first run
                return package, copy.keep_unpacked() if kept else []
            finally:
                if not kept:
                    copy.remove_unpacked()
    except OSError as exc:
        folder = tempfile.gettempdir()
        raise ModelLoadError(f"{name}: it cannot be unpacked into {folder}: {exc.strerror or exc}") from exc
    except Exception as exc:
        raise ModelLoadError(
            f"{name}: torch {torch.__version__} cannot load this AOTInductor package: {one_line(exc)}. "
            "Remedy: compile it on this machine with this version of torch"
        ) from exc
