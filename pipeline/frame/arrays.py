# SPDX-License-Identifier: Apache-2.0
"""The arrays that travel: pictures and boxes, by the type of their elements."""

import numpy as np
import numpy.typing as npt

Uint8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
