# SPDX-License-Identifier: Apache-2.0
"""COCO results: one ``coco.json`` for all streams, and ``coco_images.json``, which tells what its image ids mean."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from pipeline.errors import SinkError
from pipeline.frame import Result, StreamInfo
from pipeline.sinks.columns import columns, seconds
from pipeline.sinks.paths import checked_name, make_folder, sink_error
from pipeline.sinks.record_file import repair_tail
from pipeline.sinks.stream_files import Mode, StreamFiles


class CocoSink:
    """Writes COCO results that pycocotools reads: ``COCO("coco_images.json").loadRes("coco.json")``.

    While streams run, each has a part file in ``coco.parts``; ``close`` merges them in the order of the streams' names
    and renames the finished pair into place. So image ids do not depend on which stream was faster, and memory does
    not grow with the run.

    - ``coco.json``: ``[{"image_id", "category_id", "bbox": [x, y, width, height], "score"}, ...]``, one per line;
      ``category_id`` is the class_id.
    - ``coco_images.json``: a COCO data set without annotations: ``images`` lists ``id`` (from 1), ``file_name``,
      ``width``, ``height``, ``stream``, ``frame`` and ``pts`` of every processed frame, ``categories`` the classes.

    Args:
        folder: where both files go.
        mode: ``replace``; or ``append``, which leaves earlier pairs alone, writes ``coco.2.json`` and so on beside,
            and first makes a pair of the parts that a killed run left (without the names of its classes).
        keep: streams whose results in an existing pair are carried over (a resumed run does not see them again).
    """

    wants_pictures = False

    def __init__(
        self, folder: str | Path, *, mode: Mode = "replace", keep: Collection[str] = (), name: str = "coco"
    ) -> None:
        self.name = name
        self.path = os.path.abspath(folder)
        self._mode = mode
        self._results = Path(folder) / "coco.json"
        self._images = Path(folder) / "coco_images.json"
        self._parts = Path(folder) / "coco.parts"
        self._keep = frozenset(keep)
        self._files = StreamFiles(self._parts / "{stream}.part")
        self._streams: set[str] = set()
        self._labels: dict[int, str] = {}
        self._learned: dict[int, str] | None = None
        self._opened = False

    def open(self) -> None:
        """Make the folder, remove what a killed run left, take over what is to be kept; raises SinkError."""
        make_folder(self._results.parent)
        try:
            if self._mode == "append":
                self._rescue()
            if self._parts.is_dir():
                shutil.rmtree(self._parts)
        except OSError as error:
            raise sink_error("empty", self._parts, error) from error
        self._files.open()
        if self._keep and self._results.exists() and self._images.exists():
            self._carry_over()
        self._opened = True

    def begin(self, stream: StreamInfo) -> None:
        """Make the stream's part file; raises SinkError."""
        self._streams.add(checked_name(stream.name))
        self._learn(stream.labels)
        self._files.begin(stream.name)

    def write(self, result: Result) -> None:
        """Add one frame to the stream's part; raises SinkError."""
        self._streams.add(checked_name(result.stream))
        self._learn(result.labels)
        found = [
            [class_id, [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)], confidence]
            for class_id, _, confidence, (x1, y1, x2, y2), _ in zip(*columns(result), strict=True)
        ]
        self._add(result.stream, [result.frame, seconds(result.pts), result.width, result.height, found])

    def end(self, stream: str) -> None:
        """Close the stream's part; raises SinkError."""
        self._files.end(stream)

    def close(self) -> None:
        """Merge the parts into the two files and remove them; raises SinkError and then leaves them there."""
        self._files.close()
        if self._opened and self._streams:
            self._finish()
        elif self._opened:  # stopped before anything began: no pair of empty files
            with contextlib.suppress(OSError):
                self._parts.rmdir()

    def _finish(self) -> None:
        if self._mode == "append":
            self._results, self._images = self._free_pair()
        results, images = (path.with_name(path.name + ".part") for path in (self._results, self._images))
        try:
            with results.open("wb") as to_results, images.open("wb") as to_images:
                self._merge(to_results, to_images)
            os.replace(images, self._images)
            os.replace(results, self._results)
            shutil.rmtree(self._parts)
        except OSError as error:
            for path in (results, images):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise sink_error("write", self._results, error) from error

    def _free_pair(self) -> tuple[Path, Path]:
        folder = self._parts.parent
        names = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
        pairs = ((folder / f"coco{name}.json", folder / f"coco_images{name}.json") for name in names)
        return next(pair for pair in pairs if not pair[0].exists())

    def _rescue(self) -> None:
        """Make a pair of what a killed run left."""
        left = sorted(self._parts.glob("*.part"))
        for part in left:
            repair_tail(part)
        if any(part.stat().st_size for part in left):
            self._streams = {part.stem for part in left}
            self._finish()
            self._streams = set()

    def _add(self, stream: str, frame: list[Any]) -> None:
        self._files.append(stream, orjson.dumps(frame, option=orjson.OPT_APPEND_NEWLINE))

    def _learn(self, labels: dict[int, str]) -> None:
        if labels is self._learned:  # nearly always: the model's own table comes with every result
            return
        self._learned = labels
        for class_id, label in labels.items():
            self._labels.setdefault(class_id, label)

    def _merge(self, results: BinaryIO, images: BinaryIO) -> None:
        image_id = 0
        results.write(b"[")
        images.write(b'{"images":[')
        before_result = before_image = b"\n"
        for stream in sorted(self._streams):
            for frame, pts, width, height, found in self._frames(stream):
                image_id += 1
                image = {
                    "id": image_id,
                    "file_name": f"{stream}/{frame:06d}",
                    "width": width,
                    "height": height,
                    "stream": stream,
                    "frame": frame,
                    "pts": pts,
                }
                images.write(before_image + orjson.dumps(image))
                before_image = b",\n"
                for class_id, bbox, score in found:
                    entry = {"image_id": image_id, "category_id": class_id, "bbox": bbox, "score": score}
                    results.write(before_result + orjson.dumps(entry))
                    before_result = b",\n"
        categories = [{"id": class_id, "name": label} for class_id, label in sorted(self._labels.items())]
        images.write(b'\n],"annotations":[],"categories":' + orjson.dumps(categories) + b"}\n")
        results.write(b"\n]\n")

    def _frames(self, stream: str) -> Iterator[list[Any]]:
        part = self._parts / f"{stream}.part"
        if part.exists():  # not made when the disk was full from the start
            with part.open("rb") as lines:
                for line in lines:
                    yield orjson.loads(line)

    def _carry_over(self) -> None:
        """Turn the kept streams' share of an earlier pair back into parts, line by line."""
        try:
            with self._results.open("rb") as results, self._images.open("rb") as images:
                entries = (orjson.loads(line.rstrip(b",\n")) for line in results if line.startswith(b"{"))
                entry = next(entries, None)
                for line in images:
                    if line.startswith(b'{"id"'):
                        image = orjson.loads(line.rstrip(b",\n"))
                        found = []
                        while entry is not None and entry["image_id"] == image["id"]:
                            found.append([entry["category_id"], entry["bbox"], entry["score"]])
                            entry = next(entries, None)
                        if image["stream"] in self._keep:
                            self._streams.add(checked_name(image["stream"]))
                            frame = [image["frame"], image["pts"], image["width"], image["height"], found]
                            self._add(image["stream"], frame)
                    elif line.startswith(b"]"):
                        categories = orjson.loads(b"{" + line.partition(b",")[2])["categories"]
                        self._learn({category["id"]: category["name"] for category in categories})
        except OSError as error:
            raise sink_error("read", self._results, error) from error
        except (orjson.JSONDecodeError, KeyError) as error:
            raise SinkError(f"{self._results} was not written by this pipeline: move it away to begin anew") from error
        self._files.close()
