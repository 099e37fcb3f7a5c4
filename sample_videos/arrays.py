# SPDX-License-Identifier: Apache-2.0
"""The array type of this folder: real numbers; float32 wherever a whole picture is meant."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
