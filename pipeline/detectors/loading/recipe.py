# SPDX-License-Identifier: Apache-2.0
"""A recipe: what changes a program's speed between its file and its first batch, and its numbers a little at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Way = Literal["as_is", "optimized", "compiled", "aotinductor", "cuda_graph"]
Arithmetic = Literal["fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to a program between its file and its first batch. The default is what an untuned run does.

    Attributes:
        frozen: constants are folded, attributes become part of the program.
        channels_last: weights are laid out as the batches are.
        way: ``optimized``: torch.jit.optimize_for_inference; ``compiled``: converted and given to torch.compile;
            ``aotinductor``: a package that was compiled beforehand; ``cuda_graph``: launches recorded as CUDA graphs.
            All but ``as_is`` serve one ``shape``; inputs of other shapes take the plain way, so that a batch size that
            was never seen costs no compilation.
        shape: of the input tensor that ``way`` is for.
        precision: of the arithmetic.
        file: what the program is read from in the place of the model's own file: a quantised copy, or the package.
        sha256: digest of ``file``, 64 hexadecimal digits.
    """

    frozen: bool = True
    channels_last: bool = True
    way: Way = "as_is"
    shape: tuple[int, ...] | None = None
    precision: Arithmetic = "fp32"
    file: str | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """In a few words, such as ``frozen channels_last bf16``."""
        steps = [word for word in ("frozen", "channels_last") if getattr(self, word)]
        ways = {
            "optimized": "optimize_for_inference",
            "compiled": "torch.compile",
            "aotinductor": "AOTInductor",
            "cuda_graph": "CUDA graph",
        }
        words = [ways[self.way]] if self.way != "as_is" else steps or ["plain"]
        return " ".join([*words, *([] if self.precision == "fp32" else [self.precision])])

    @property
    def exact(self) -> bool:
        """It computes in fp32; results differ by rounding only."""
        return self.precision == "fp32"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"shape": list(self.shape) if self.shape is not None else None}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Recipe:
        """What :meth:`as_dict` returned; raises TypeError or ValueError where it is something else."""
        if not isinstance(facts, Mapping):
            raise TypeError(f"{facts!r}: a recipe was expected")
        if not all(facts.get(name) is None or isinstance(facts[name], str) for name in ("file", "sha256")):
            raise TypeError("file and sha256 are texts")
        shape = facts.get("shape")
        return cls(**{**facts, "shape": None if shape is None else tuple(int(side) for side in shape)})


DEFAULT = Recipe()
"""Of a run that nobody tuned."""
