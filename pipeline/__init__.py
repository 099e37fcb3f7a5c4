# SPDX-License-Identifier: Apache-2.0
"""Multi-camera video analytics: many streams, one shared, dynamically batched TorchScript detector."""
