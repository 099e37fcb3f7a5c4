# SPDX-License-Identifier: Apache-2.0
"""What was measured to be fastest for a model on this machine: kept by model, machine and versions, and found again."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.detectors.loading.recipe import Recipe
from pipeline.host.caches import cache_folder, distrusted, read_cached, write_cached
from pipeline.host.cores import allowed_cores

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

EDITION = 1
"""Grows when the measurement changes: older entries are then not believed."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A measured choice.

    Attributes:
        recipe: how the program is made ready.
        workers, threads: detect workers, and intra-op threads of each.
        batch: pictures per batch.
        fps: pictures per second that all workers together reached, when it was measured.
        ms: median time of a batch meanwhile.
        ratio: ``fps`` as a multiple of the file as it comes, one picture at a time with all threads.
        entry: the file of the cache that it is from.
        created: when it was measured, RFC 3339.
    """

    recipe: Recipe
    workers: int
    threads: int
    batch: int
    fps: float
    ms: float
    ratio: float
    entry: Path
    created: str

    @property
    def name(self) -> str:
        """In a few words."""
        return f"{self.recipe.name}, batch {self.batch}, {self.workers} x {self.threads} threads"

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return {
            "entry": str(self.entry),
            "created": self.created,
            "choice": self.name,
            "recipe": self.recipe.as_dict(),
            "workers": self.workers,
            "threads": self.threads,
            "batch": self.batch,
            "fps": self.fps,
            "ms": self.ms,
            "ratio": self.ratio,
        }


@dataclass(frozen=True, slots=True)
class Fixed:
    """What the user has decided already; None leaves it to the measurement."""

    precision: str | None = None
    batch: int | None = None
    workers: int | None = None


def digest_of(model: str) -> str:
    """SHA-256 of a model file; of a built-in model its name. Raises OSError."""
    if model.startswith("builtin:"):
        return model
    with open(model, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(digest: str, device: torch.device, given: Mapping[str, Any]) -> dict[str, Any]:
    """All that a measurement holds for.

    Args:
        digest: of the model.
        device: where it runs.
        given: what the configuration says of its input and adapter, as JSON.
    """
    import torch

    on_cpu = device.type == "cpu"
    return {
        "edition": EDITION,
        "model": digest,
        "given": json.loads(json.dumps(given, sort_keys=True)),
        "device": "cpu" if on_cpu else torch.cuda.get_device_name(device),
        "cpu": _cpu_model(),
        "cores": allowed_cores(),
        "torch": torch.__version__,
        "version": _version(),
    }


def entry_of(key: Mapping[str, Any]) -> Path:
    """The file of the cache that belongs to a key."""
    told = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^0-9A-Za-z]+", "-", str(key["model"]))[:24]
    return cache_folder("tuned") / f"{name}-{told[:16]}.json"


def keep(key: Mapping[str, Any], created: str, choice: int, candidates: Sequence[Mapping[str, Any]]) -> Path:
    """Keep the candidates that may be chosen, and which of them was; returns the entry."""
    path = entry_of(key)
    before = read_cached(path) or {}
    write_cached(path, {"key": dict(key), "created": created, "choice": choice, "candidates": list(candidates)})
    ours = {file for file in _files(before.get("candidates", ())) if Path(file).parent == path.parent}
    for file in ours - _files(candidates) - _files_of_others(path):  # copies that nobody names any more
        with contextlib.suppress(OSError):
            Path(file).unlink()
    return path


def _files_of_others(entry: Path) -> set[str]:
    """What the other entries name: copies are shared by all entries of a model, for one GPU or setting and another."""
    others = (read_cached(path) or {} for path in entry.parent.glob("*.json") if path != entry)
    return {file for facts in others for file in _files(facts.get("candidates", ()))}


def _files(candidates: Any) -> set[str]:
    """What they name, as far as they are what they should be."""
    found = set()
    for candidate in candidates if isinstance(candidates, list | tuple) else ():
        recipe = candidate.get("recipe") if isinstance(candidate, Mapping) else None
        file = recipe.get("file") if isinstance(recipe, Mapping) else None
        found |= {file} if isinstance(file, str) else set()
    return found


def recall_entry(path: Path) -> dict[str, Any] | None:
    """What an entry holds, or None where it is missing or damaged."""
    return read_cached(path)


def recall(model: str, device: str, given: Mapping[str, Any], fixed: Fixed) -> Tuned | None:
    """The measured choice for a model, or the fastest candidate that fits what is fixed; None where there is none.

    An entry that others may have written is ignored, and so is a candidate that names a file that they may have
    written or that lies outside the cache: the file is a program that is run in the place of the model.

    Args:
        model: path, or ``builtin:NAME``.
        device: as in the configuration.
        given: as for :func:`key_of`.
        fixed: explicit settings win over what was measured.

    Raises:
        ModelLoadError: no such device.
    """
    if not cache_folder("tuned").is_dir():
        return None
    from pipeline.detectors.placement import choose_device

    try:
        key = key_of(digest_of(model), choose_device(device), given)
    except OSError:
        return None  # the loader says it better
    path = entry_of(key)
    facts = read_cached(path)
    if facts is None or facts.get("key") != key:
        return None
    try:
        candidates = [_tuned(candidate, path, facts["created"]) for candidate in facts["candidates"]]
        best: Tuned = candidates[facts["choice"]]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None
    fit = [one for one in (best, *sorted(candidates, key=lambda one: -one.fps)) if _fits(one, fixed)]
    refused: set[tuple[str | None, str | None]] = set()  # several candidates may name one file: it is told of once
    for one in fit:
        file = (one.recipe.file, one.recipe.sha256)
        if file not in refused:
            if _whole(one.recipe):
                return one
            refused.add(file)
    return None


def _tuned(facts: Mapping[str, Any], entry: Path, created: str) -> Tuned:
    workers, threads, batch = (int(facts[name]) for name in ("workers", "threads", "batch"))
    if min(workers, threads, batch) < 1:
        raise ValueError("a measured choice has at least one worker, one thread and one picture")
    fps, ms, ratio = (float(facts[name]) for name in ("fps", "ms", "ratio"))
    return Tuned(Recipe.of(facts["recipe"]), workers, threads, batch, fps, ms, ratio, entry, str(created))


def _fits(tuned: Tuned, fixed: Fixed) -> bool:
    found = (tuned.recipe.precision, tuned.batch, tuned.workers)
    wanted = (fixed.precision, fixed.batch, fixed.workers)
    return all(need is None or need == have for need, have in zip(wanted, found, strict=True))


def _whole(recipe: Recipe) -> bool:
    """The file that the recipe names, if any, is there, is of our making, and is the one that was measured."""
    if recipe.file is None:
        return True
    file, folder = Path(recipe.file), cache_folder("tuned")
    try:
        reason = distrusted(file) if file.parent == folder else f"{folder} is where such files are kept"
        if reason:
            _log.warning("%s, a copy made by model tune, is ignored: %s", file, reason)
        return not reason and digest_of(recipe.file) == recipe.sha256
    except OSError:
        return False


def _version() -> str:
    """Of this program; a tree of sources that nobody installed has none."""
    try:
        return importlib.metadata.version("video-pipeline")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^(?:model name|Hardware|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()
