# SPDX-License-Identifier: Apache-2.0
"""What :mod:`pipeline.workshop.inspection.inspecting` found, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.detectors.loading.members import printable
from pipeline.figures import count

_FORMATS = {
    "torchscript": "TorchScript",
    "lite": "TorchScript for the lite interpreter (mobile)",
    "pt2": "torch.export archive (.pt2)",
}
_SHOWN = 5
_NUMBERS = {1.0: "grey levels 0 to 255", round(1 / 255, 9): "grey levels divided by 255"}


def described(told: Mapping[str, Any]) -> Iterator[str]:
    """Name and value in two columns, then what makes it grow, warnings, and the code where it was asked for."""
    pairs = [*_pairs(told), *_probed(told.get("probe"))]
    width = max(len(name) for name, _ in pairs)
    yield printable(told["path"])
    for name, value in pairs:
        yield f"  {name:<{width}}  {value}"
    for finding in told.get("growth", ()):
        yield f"grows: {printable(finding['text'], 500)}"
    for warning in told["warnings"]:
        yield f"warning: {printable(warning, 500)}"
    for file, text in told.get("code", {}).get("text", {}).items():
        yield ""
        yield f"# {printable(file)}"
        yield from (printable(line, 10_000) for line in text.splitlines())


def in_bytes(number: int) -> str:
    """``44.9 MB``; powers of ten, as files are usually counted."""
    size = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return ""


def _pairs(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    members = told["members"]
    expands = f", {in_bytes(members['bytes'])} unpacked" if members["bytes"] > 1.1 * told["bytes"] else ""
    yield (
        "format",
        f"{_FORMATS[told['format']]}, {in_bytes(told['bytes'])} in {count(members['count'], 'member')}{expands}",
    )
    yield "sha256", told["sha256"]
    if told["forward"] is not None:
        yield "forward", printable(told["forward"], 1000)
    if told.get("dynamic"):
        limits = (f"{name} {_limit(bounds[0])} to {_limit(bounds[1])}" for name, bounds in told["dynamic"].items())
        yield "dynamic", ", ".join(limits)
    yield from _metadata(told["metadata"])
    if "code" in told:
        code = told["code"]
        yield (
            "code",
            ", ".join(
                (
                    f"{count(code['lines'], 'line')} in {count(code['files'], 'file')}",
                    count(len(code["methods"]), "method"),
                )
            ),
        )
    branches = told["control_flow"]
    yield "control flow", ", ".join(f"{number} {kind}" for kind, number in branches.items())
    for kind, types in told["tensors"].items():
        if types:
            yield kind, "; ".join(_tensors(dtype, of_type) for dtype, of_type in types.items())
    yield from _operators(told["operators"])
    yield from _shapes(told.get("baked_shapes", ()))
    largest = (f"{printable(entry['name'], 60)} {in_bytes(entry['bytes'])}" for entry in members["largest"][:3])
    yield "largest", ", ".join(largest)


def _metadata(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if metadata["source"] is None:
        others = ", ".join(printable(name, 60) for name in list(metadata["files"])[:_SHOWN])
        yield "metadata", f"none that is understood, but {others}" if others else "none"
        return
    parts = [metadata["source"]]
    if metadata["adapter"]:
        parts.append(f"adapter {printable(metadata['adapter'], 60)}")
    if metadata["input"]:
        fixed = " only" if metadata["fixed_size"] else ""
        height, width = metadata["input"]
        parts.append(f"input {width}x{height}{fixed}")
    if metadata["fixed_batch"]:
        parts.append(f"batches of {metadata['fixed_batch']} only")
    if metadata["stride"] > 1:
        parts.append(f"stride {metadata['stride']}")
    yield "metadata", ", ".join(parts)
    names = list(metadata["names"].values())
    if names:
        shown = ", ".join(printable(name, 40) for name in names[:_SHOWN])
        yield "classes", f"{len(names)}: {shown}{', ...' if len(names) > _SHOWN else ''}"


def _tensors(dtype: str, of_type: Mapping[str, int]) -> str:
    return f"{of_type['values']:,} {dtype} in {count(of_type['tensors'], 'tensor')}, {in_bytes(of_type['bytes'])}"


def _operators(operators: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kind = ", quantised" if operators.get("quantized") else ""
    yield "operators", f"{count(operators['calls'], 'call')} of {count(operators['distinct'], 'operator')}{kind}"
    for title, key in (("torchvision", "other_libraries"), ("custom", "custom")):
        if operators[key]:
            yield title, ", ".join(f"{printable(name, 80)} ({calls})" for name, calls in operators[key].items())


def _shapes(baked: Any) -> Iterator[tuple[str, str]]:
    if not baked:
        return
    first = [shape for shape in baked if shape["batch"]]
    shown = ", ".join(
        f"{shape['operator']} {printable(shape['shape'], 60)} ({printable(shape['at'].rpartition('/')[2], 60)})"
        for shape in (first or list(baked))[:3]
    )
    batch = f"{len(first)} of them with a literal first size" if first else "none with a literal first size"
    yield "baked shapes", f"{len(baked)}, {batch}: {shown}"


def _probed(probe: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if probe is None or "error" in probe:
        return
    height, width = probe["input"]
    yield (
        "probe",
        (
            f"{probe['adapter']}, input {width}x{height}, {probe['precision']} on {probe['device']}, "
            f"batches up to {probe['max_batch']}"
        ),
    )
    yield "is shown", _shown(probe["input_spec"])
    yield from _tried(probe["verdict"])
    for note in probe["notes"]:
        yield "note", printable(note, 500)


def _shown(spec: Mapping[str, Any]) -> str:
    """What the network is given, in a line."""
    numbers = _NUMBERS.get(round(spec["scale"], 9)) or f"grey levels times {spec['scale']:.6g}"
    if any(spec["mean"]) or any(std != 1.0 for std in spec["std"]):
        mean, std = (", ".join(f"{value:.4g}" for value in spec[key]) for key in ("mean", "std"))
        numbers += f", minus ({mean}), by ({std})"
    fit = spec["fit"] if spec["fit"] == "stretch" else f"{spec['fit']} on {spec['pad_value']}"
    form = "a list of pictures" if spec["as_list"] else spec["layout"].upper()
    extra = f", and {', '.join(spec['extra_inputs'])}" if spec["extra_inputs"] else ""
    return f"{spec['colour'].upper()}, {numbers}, {fit}, {spec['dtype']} {form}{extra}"


def _tried(verdict: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not verdict["checked"]:
        return
    again = " (from an earlier start)" if verdict["cached"] else ""
    yield "tried", f"{', '.join(verdict['checked'])}{again}"
    shapes = f"any with sides that are multiples of {verdict['trim']}" if verdict["trim"] else "this one only"
    yield "shapes", shapes
    times = ", ".join(f"{ms:.3g} ms in batches of {size}" for size, ms in verdict["ms_per_picture"].items())
    if times:
        yield "a picture", times


def _limit(value: Any) -> str:
    return "any" if value is None else str(value)
