# SPDX-License-Identifier: Apache-2.0
"""A torch that was built for CUDA, but sees no GPU."""

from __future__ import annotations

from pipeline.workshop.doctor.finding import Finding


def driver() -> Finding | None:
    """No GPU can be used though torch could; worse where there is one."""
    import torch

    from pipeline.detectors.placement import gpu_files

    if torch.version.cuda is None or torch.cuda.is_available():
        return None
    devices = gpu_files()
    if devices:
        return Finding(
            "gpu",
            "warning",
            f"there is a GPU ({', '.join(devices)}), but torch {torch.__version__} for CUDA {torch.version.cuda} "
            "cannot use it: the driver is too old, or hidden from this process",
            "compare nvidia-smi's CUDA version with torch's; in a container: run it with --gpus all; see also "
            "CUDA_VISIBLE_DEVICES",
        )
    return Finding(
        "gpu",
        "note",
        f"torch is built for CUDA {torch.version.cuda}, but there is no GPU driver here: everything runs on the CPU",
        "nothing, where no GPU is meant to be used (a CPU build of torch saves some gigabytes); else install NVIDIA's "
        "driver",
    )
