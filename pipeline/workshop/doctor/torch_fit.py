# SPDX-License-Identifier: Apache-2.0
"""torch and torchvision: whether their versions fit, and whether torchvision's compiled operators register."""

from __future__ import annotations

import importlib.metadata
import re

from pipeline.workshop.doctor.finding import Finding

_CLAUSE = re.compile(r"(==|>=|<=|!=|~=|<|>)\s*([\w.*+!]+)")


def versions_fit() -> Finding | None:
    """The torch that torchvision asks for in its metadata is not the one that is installed."""
    try:
        needs = importlib.metadata.requires("torchvision") or []
        torchvision, torch = importlib.metadata.version("torchvision"), importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError as error:
        return Finding("versions", "fault", f"{error.name} is not installed", "pip install video-pipeline")
    wanted = next((need for need in needs if re.match(r"torch(?![\w-])", need) and "extra" not in need), "")
    unmet = [f"{sign}{version}" for sign, version in _CLAUSE.findall(wanted) if not _holds(torch, sign, version)]
    if not unmet:
        return None
    return Finding(
        "versions",
        "fault",
        f"torchvision {torchvision} needs torch {', '.join(unmet)}, but torch {torch} is installed",
        f"pip install 'torch{','.join(unmet)}', or upgrade both: pip install -U torch torchvision",
    )


def operators_register() -> Finding | None:
    """torchvision's library cannot be loaded: models that contain its operators cannot run."""
    import torch

    from pipeline.detectors.loading.operators import suppress_operator

    suppress_operator()
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    return Finding(
        "torchvision",
        "fault",
        f"torchvision's operators do not register with torch {torch.__version__}: models that contain "
        "torchvision::nms cannot be loaded, and overlaps are suppressed slowly",
        "install both from one place and for one kind of device: pip install --force-reinstall torch torchvision",
    )


def _holds(installed: str, sign: str, wanted: str) -> bool:
    """One clause of PEP 440, without local versions and pre-releases."""
    have, want = _numbers(installed), _numbers(wanted)
    if wanted.endswith(".*") or sign == "~=":
        kept = want if wanted.endswith(".*") else want[:-1]
        same = have[: len(kept)] == kept
        return not same if sign == "!=" else same and (sign != "~=" or have >= want)
    width = max(len(have), len(want))
    have, want = (numbers + (0,) * (width - len(numbers)) for numbers in (have, want))
    return {"==": have == want, "!=": have != want, ">=": have >= want, "<=": have <= want, ">": have > want}.get(
        sign, have < want
    )


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()
