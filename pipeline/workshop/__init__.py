# SPDX-License-Identifier: Apache-2.0
"""The workshop: make, look into, compare, quantise and profile detectors, and find what is wrong with this machine."""
