# SPDX-License-Identifier: Apache-2.0
"""Trying a model before the first frame: what it takes, and what it does with it."""
