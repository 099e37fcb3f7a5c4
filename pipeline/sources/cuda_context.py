# SPDX-License-Identifier: Apache-2.0
"""The CUDA context that decoders share with each other and with torch.

By itself libav makes a context per stream: half a gigabyte of the GPU's memory each, and they take turns. With 16
streams that came to 8.7 GB, and to fewer frames per second than with four (an H100).
"""

from __future__ import annotations

import ctypes
import functools

_LIBRARY = "libcuda.so.1"


def enter_context(number: int) -> bool:
    """Make the primary context of a GPU the calling thread's, as CUDA's runtime does; False where that cannot be.

    It is kept until the process ends, as torch keeps it.
    """
    context = _primary(number)
    return context is not None and _driver().cuCtxSetCurrent(context) == 0


@functools.cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL(_LIBRARY)


@functools.cache
def _primary(number: int) -> ctypes.c_void_p | None:
    device, context = ctypes.c_int(), ctypes.c_void_p()
    try:
        driver = _driver()
    except OSError:
        return None
    made = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), number) == 0
        and driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    )
    return context if made else None
