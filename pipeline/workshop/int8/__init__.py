# SPDX-License-Identifier: Apache-2.0
"""``model quantize``: INT8 from a TorchScript file alone."""
