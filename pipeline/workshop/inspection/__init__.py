# SPDX-License-Identifier: Apache-2.0
"""``model inspect``: what is inside a model file, without running it."""
