# SPDX-License-Identifier: Apache-2.0
"""What threads meet at, and who owns them: a stop flag, a bounded channel, a group of named threads, and a crew."""

from pipeline.threads.channel import Channel, Closed, Policy, Put
from pipeline.threads.crew import Crew, Handed
from pipeline.threads.stop import StopFlag
from pipeline.threads.workers import WorkerGroup, go_first, show_name

__all__ = ["Channel", "Closed", "Crew", "Handed", "Policy", "Put", "StopFlag", "WorkerGroup", "go_first", "show_name"]
