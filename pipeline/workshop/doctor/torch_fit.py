# SPDX-License-Identifier: Apache-2.0
"""torch and torchvision: whether their versions fit, and whether torchvision's compiled operators register."""

from __future__ import annotations

import importlib.metadata

from packaging.requirements import Requirement

from pipeline.workshop.doctor.finding import Finding


def versions_fit() -> Finding | None:
    """The torch that torchvision asks for in its metadata is not the one that is installed."""
    try:
        needs = importlib.metadata.requires("torchvision") or []
        torchvision, torch = importlib.metadata.version("torchvision"), importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError as error:
        return Finding("versions", "fault", f"{error.name} is not installed", "pip install video-pipeline")
    wanted = [need for need in map(Requirement, needs) if need.name == "torch"]
    clauses = [each for need in wanted if need.marker is None or need.marker.evaluate() for each in need.specifier]
    unmet = [str(each) for each in clauses if not each.contains(torch, prereleases=True)]
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
