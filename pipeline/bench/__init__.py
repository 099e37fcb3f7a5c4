# SPDX-License-Identifier: Apache-2.0
"""The pipeline on this machine, against the sum of its own parts and against the loops that people write by hand."""
