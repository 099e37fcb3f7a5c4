# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the schedule can fail: each figure tells a run that keeps its promise from one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import schedule_figures as figures
from benchmarks.expectations import unmet
from benchmarks.schedule_figures import Seen, Sight

FPS = 20.0
SECONDS = 30
STAGES = {"decode": 1.0, "preprocess": 1.0, "queue": 4.0, "infer": 10.0, "postprocess": 1.0, "follow": 0.0}
SINK_MS = 3.0
LATENCY_MS = sum(STAGES.values()) + SINK_MS


def sight(late_ms: float | Sequence[float] = 0.0, every: int = 1, weight: float = 1.0, queue: int = 1) -> Sight:
    """A stream of 20 fps of which each ``every``-th frame is processed, ``late_ms`` later than usual."""
    offered = 100.0 + np.arange(round(FPS * SECONDS)) / FPS
    index = np.arange(0, len(offered), every)
    late = np.broadcast_to(np.asarray(late_ms, float), index.shape)
    parts = {stage: np.full(len(index), spent) for stage, spent in STAGES.items()}
    parts["queue"] = parts["queue"] + late
    seen = offered[index] + (LATENCY_MS - STAGES["decode"] + late) / 1e3
    return Sight(FPS, offered, index, offered[index], seen, parts, share=weight)


def seen(*sights: Sight) -> Seen:
    streams = {f"s{number}": one for number, one in enumerate(sights)}
    report = {name: {"frames": counts(one)} for name, one in streams.items()}
    return Seen(streams, {"streams": report})


def counts(one: Sight) -> dict[str, Any]:
    decoded, processed = len(one.offered_s), len(one.index)
    return {"decoded": decoded, "processed": processed, "dropped": {"overflow": decoded - processed}, "decimated": 0}


WINDOW = (102.0, 128.0)


def test_a_steady_run() -> None:
    found = figures.live(seen(sight(), sight()), WINDOW)
    assert found["processed"] == 1.0
    assert found["p50"] == found["p99"] == pytest.approx(LATENCY_MS)
    assert found["stages"] == pytest.approx(LATENCY_MS)
    assert found["median_sink"] == pytest.approx(SINK_MS)
    assert found["p99_over_stages"] == pytest.approx(1.0)
    assert found["p99_over_work"] == pytest.approx(LATENCY_MS / (LATENCY_MS - STAGES["queue"]))
    assert found["jitter"] == pytest.approx(0.0, abs=1e-6)


def test_a_tail_shows_in_the_99th_percentile_and_not_in_the_medians() -> None:
    late = np.zeros(round(FPS * SECONDS))
    late[::20] = 60.0  # 5 of 100 of one, 2.5 of 100 of both
    found = figures.live(seen(sight(), sight(late)), WINDOW)
    assert found["stages"] == pytest.approx(LATENCY_MS)
    assert found["p99"] == pytest.approx(LATENCY_MS + 60.0, rel=0.05)
    assert found["p99_over_stages"] > 3.0


def test_jitter_is_what_comes_out_less_what_came_in() -> None:
    swings = np.resize([0.0, 10.0], round(FPS * SECONDS))  # intervals of 40 and 60 ms
    found = figures.live(seen(sight(), sight(swings)), WINDOW)
    assert found["jitter"] == pytest.approx(np.sqrt((10.0**2 + 0.0) / 2), rel=0.01)
    assert found["jitter_worst"] == pytest.approx(10.0, rel=0.01)
    assert found["jitter_delay"] == pytest.approx(5.0, rel=0.01)
    unsteady = sight(swings)
    came = replace(unsteady, captured_s=unsteady.captured_s + swings / 1e3)
    assert figures.live(seen(came), WINDOW)["jitter"] == pytest.approx(0.0, abs=1e-6)


def test_lost_frames_show() -> None:
    assert figures.live(seen(sight(), sight(every=2)), WINDOW)["processed"] == pytest.approx(0.75)


def test_overload_is_bounded_by_a_batch_and_an_interval() -> None:
    found = figures.overload(seen(sight(every=3), sight(every=3)), WINDOW)
    bound = 2 * (STAGES["infer"] + STAGES["postprocess"] + 1e3 / FPS)
    assert found["p95_over_bound"] == pytest.approx(LATENCY_MS / bound)
    assert found["offered"] == pytest.approx(2 * FPS)
    assert found["fps"] == pytest.approx(2 * FPS / 3, rel=0.02)
    assert found["growth"] == pytest.approx(1.0)
    assert found["fairness"] == pytest.approx(1.0, abs=1e-3)
    assert figures.overload(seen(sight(110.0, every=3)), WINDOW)["p95_over_bound"] > 1.0


def test_an_age_that_grows_is_seen() -> None:
    growing = np.linspace(0.0, 40.0, round(FPS * SECONDS))
    assert figures.overload(seen(sight(growing)), WINDOW)["growth"] > 1.5


def test_shares() -> None:
    assert figures.jain([10, 10, 10]) == pytest.approx(1.0)
    assert figures.jain([30, 0, 0]) == pytest.approx(1 / 3)
    assert figures.jain([0, 0]) == 0.0
    assert figures.unfairness([10, 20, 30], [1, 2, 3]) == pytest.approx(0.0)
    assert figures.unfairness([20, 20, 20], [1, 2, 3]) == pytest.approx(1.0)  # twice as much as its share
    assert figures.unfairness([0, 0], [1, 1]) == 1.0
    found = figures.overload(seen(sight(every=2, weight=2), sight(every=4)), WINDOW)
    assert found["shares"] < 0.02
    assert figures.overload(seen(sight(every=3, weight=2), sight(every=3)), WINDOW)["shares"] > 0.2


@pytest.mark.parametrize(
    ("lost", "expected_s"),
    [((100, 150), 0.0), ((100, 240), 2.0), ((230, 231), 0.0), ((590, 600), float("inf"))],
)
def test_recovery_is_from_when_on_every_second_is_whole(lost: tuple[int, int], expected_s: float) -> None:
    whole = sight()
    kept = np.setdiff1d(whole.index, np.arange(*lost))  # load falls with frame 200, at 110 s
    found = figures.recovery_s(replace(whole, index=kept), 110.0)
    assert found == pytest.approx(expected_s, abs=1 / FPS)


def test_what_proves_nothing() -> None:
    sound = seen(sight(), sight(every=3))
    assert figures.faults(sound) == []
    name, other = "s0", sound.streams["s1"]
    report = sound.report["streams"][name]["frames"]

    def told(**changed: Any) -> str:
        streams = {name: {"frames": report | changed}, "s1": {"frames": counts(other)}}
        return "; ".join(figures.faults(replace(sound, report={"streams": streams})))

    assert "its report does not balance" in told(decimated=1)
    assert "600 lines of 599" in told(processed=599, dropped={"stale": 1})
    assert "599 of 600 frames were decoded" in told(decoded=599, processed=600, dropped={})
    wrong = replace(sound, streams={name: replace(sound.streams[name], agreement=0.9), "s1": other})
    assert "not those of the frames" in "; ".join(figures.faults(wrong))
    twice = replace(other, index=np.concatenate([other.index[:1], other.index[:-1]]))
    assert "two lines" in "; ".join(figures.faults(replace(sound, streams={name: sound.streams[name], "s1": twice})))


def test_expectations() -> None:
    known = ("live.p99", "live.processed")
    assert unmet({"live.p99": 99.0}, "live.p99<=100", known) is None
    assert unmet({"live.p99": 101.0}, "live.p99<=100", known) == "live.p99<=100: 101"
    assert unmet({"live.processed": 0.9}, "live.processed>=0.99", known) == "live.processed>=0.99: 0.9"
    assert unmet({}, "live.p99<=100", known) == "live.p99<=100: not measured"
    assert unmet({"live.p99": float("nan")}, "live.p99<=100", known) == "live.p99<=100: nan"
    for wanted in ("live.p99", "live.p99<100", "live.p98<=3"):
        with pytest.raises(SystemExit):
            unmet({}, wanted, known)
