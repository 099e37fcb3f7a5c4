# SPDX-License-Identifier: Apache-2.0
"""What a machine can do with the streams of a streams.yaml: measured, predicted, and then proven."""
