# SPDX-License-Identifier: Apache-2.0
"""The 3,780 published weights and the bias of OpenCV's default people detector; see LICENSE.weights."""

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelLoadError

COUNT = 3780
"""Weights of one 64x128 window: 7 x 15 blocks of 2 x 2 cells of 9 orientation bins."""


def load_weights() -> tuple[NDArray[np.float32], float]:
    """Return the weights and the bias.

    The weights are float32 (7, 15, 2, 2, 9): block column, block row, cell column, cell row, orientation bin, which is
    the column-by-column order in which OpenCV publishes them. Raises ModelLoadError where the file holds anything else.
    """
    with files(__package__).joinpath("weights.npy").open("rb") as stream:
        numbers = np.load(stream, allow_pickle=False)
    if numbers.shape != (COUNT + 1,) or numbers.dtype != np.float32 or not np.isfinite(numbers).all():
        raise ModelLoadError(
            f"weights.npy of builtin:people holds {numbers.dtype}{numbers.shape}, expected {COUNT + 1} finite float32;"
            " reinstall the package"
        )
    return numbers[:COUNT].reshape(7, 15, 2, 2, 9), float(numbers[COUNT])
