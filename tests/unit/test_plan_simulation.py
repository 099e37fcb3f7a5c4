# SPDX-License-Identifier: Apache-2.0
"""What costs come to: the real scheduler on a simulated machine, with costs that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from pipeline.flow.lanes import Terms
from pipeline.flow.stream import FlowOptions
from pipeline.frame import InputSpec
from pipeline.plan.costs import BatchCost, Costs, FrameCost, NetworkCosts, StreamCosts
from pipeline.plan.headroom import has_memory, has_reserve, headroom, holds, memory_mb, representatives
from pipeline.plan.outcome import Load, Outcome
from pipeline.plan.simulation import simulate

MS = 1_000_000
SPEC = InputSpec(64, 64)
FRESHEST = Terms(policy="freshest")
OPTIONS = FlowOptions(batch_size=8, fixed_batch=False, max_wait_ms=10.0, workers=2, outlet_capacity=256)


def stream(
    fps: float = 10.0, decode_ms: float = 1.0, prepare_ms: float = 1.0, keep: int = 1, lag: int = 0
) -> StreamCosts:
    """A second of video; of ``keep`` frames one is processed."""
    frames = tuple(
        FrameCost(n / fps, int(decode_ms * MS), lag, None if n % keep else int(prepare_ms * MS))
        for n in range(int(fps))
    )
    return StreamCosts(frames, None, SPEC, 64, 48, "h264")


def network(base_ms: float = 5.0, each_ms: float = 5.0, away_ms: float = 0.0) -> NetworkCosts:
    found = NetworkCosts()
    for size in (1, 2, 4, 8):
        found.add(SPEC, size, BatchCost(int((base_ms + size * each_ms) * MS), int(away_ms * MS)))
    return found


def costs(streams: Mapping[str, StreamCosts], model: NetworkCosts | None = None, cores: float = 2.0) -> Costs:
    return Costs(streams, model or network(), {}, 0.2, cores, 2, 1.0, 1.0)


def loads(
    count: int, each: StreamCosts, terms: Terms = FRESHEST, sinks_ms: Mapping[str, float] | None = None
) -> list[Load]:
    return [Load(f"c{n}", each, terms, n / count, sinks_ms or {"jsonl": 0.1}) for n in range(count)]


def run(some: list[Load], model: NetworkCosts | None = None, cores: float = 2.0, **more: float) -> Outcome:
    return simulate(some, costs({}, model, cores), OPTIONS, seconds=10, **more)  # type: ignore[arg-type]


def test_a_light_load_is_done_whole_and_takes_as_long_as_its_parts() -> None:
    outcome = run(loads(2, stream()))
    assert outcome.wanted_fps == pytest.approx(20, abs=0.2)
    assert outcome.fps == pytest.approx(20, abs=0.2)
    assert all(each.missing == 0 for each in outcome.streams.values())
    # decode 1, prepare 1, no wait for company while a worker is free, a batch of one 10, the rest 0.3
    assert 12.2 <= outcome.percentile(50) <= 23.4  # type: ignore[operator]
    assert outcome.cores == pytest.approx(20 * (1 + 1 + 10 + 0.3) / 1000, rel=0.05)


def test_costs_are_charged_to_what_they_are_of() -> None:
    use = run(loads(1, stream())).use
    assert use == {
        "decode": pytest.approx(0.01, rel=0.1),
        "preprocess": pytest.approx(0.01, rel=0.1),
        "network": pytest.approx(0.1, rel=0.1),
        "other": pytest.approx(0.002, rel=0.1),
        "sinks": pytest.approx(0.001, rel=0.1),
    }


def test_frames_that_are_thinned_out_cost_their_decoding_only() -> None:
    outcome = run(loads(1, stream(keep=5)))
    assert outcome.wanted_fps == pytest.approx(2, abs=0.2)
    assert outcome.use["decode"] == pytest.approx(0.01, rel=0.1)
    assert outcome.use["preprocess"] == pytest.approx(0.002, rel=0.15)


@pytest.mark.parametrize("policy", ["freshest", "every_frame"])
def test_more_than_the_cores_can_do_is_shared_evenly(policy: str) -> None:
    """10 cameras of 50 fps: 500 x 2 ms of reading alone is half of two cores, the rest is worth about 170 frames."""
    outcome = run(loads(10, stream(50.0), Terms(policy=policy)))  # type: ignore[arg-type]
    rates = [each.finished for each in outcome.streams.values()]
    assert max(rates) - min(rates) <= 0.03 * max(rates) + 1
    assert outcome.cores == pytest.approx(2.0, rel=0.01)
    assert outcome.fps < 0.75 * outcome.wanted_fps
    assert all(each.missing > 0.2 for each in outcome.streams.values())
    if policy == "freshest":
        assert outcome.streams["c0"].lost["overflow"] > 0
    else:
        assert not outcome.streams["c0"].lost
    # whatever was processed was paid for
    spent = outcome.use["network"] + outcome.use["preprocess"] + outcome.use["decode"]
    assert spent == pytest.approx(2.0, rel=0.06)


def test_weights_share_what_there_is() -> None:
    some = loads(4, stream(60.0))
    some[0] = Load("c0", some[0].costs, Terms(3, "freshest"), 0.0, {})
    outcome = run(some, network(5, 30))
    rates = {name: each.finished for name, each in outcome.streams.items()}
    assert rates["c0"] == pytest.approx(3 * rates["c1"], rel=0.1)


def test_a_frame_that_the_decoder_keeps_counts_from_its_own_packet() -> None:
    plain, kept = (run(loads(1, stream(lag=lag))).percentile(50) for lag in (0, 2))
    assert kept == pytest.approx(plain + 200, abs=15)  # type: ignore[operator]


def test_frames_that_are_too_old_are_shed() -> None:
    outcome = run(loads(6, stream(50.0), Terms(policy="freshest", staleness_ns=60 * MS)), network(5, 20))
    assert sum(each.lost["stale"] for each in outcome.streams.values()) > 0


def test_a_sink_that_is_too_slow_loses_its_own_results() -> None:
    outcome = simulate(
        loads(1, stream(50.0), sinks_ms={"video": 40.0}),
        costs({}, network(0.1, 0.1)),
        FlowOptions(batch_size=8, fixed_batch=False, workers=2, outlet_capacity=4),
        seconds=10,
    )
    assert outcome.streams["c0"].lost["sink"] > 100
    assert not holds(outcome, loads(1, stream(50.0), sinks_ms={"video": 40.0}))


def test_a_frame_that_gives_way_costs_what_it_costs() -> None:
    """Half of the cores are read away; what is lost takes its share of the rest."""
    some = loads(10, stream(50.0))
    dear = simulate(some, replace(costs({}), lost_ms=2.0), OPTIONS, seconds=10)
    assert dear.fps < 0.75 * run(some).fps
    light = simulate(loads(2, stream()), replace(costs({}), lost_ms=2.0), OPTIONS, seconds=10)
    assert light == run(loads(2, stream()))  # nothing is lost


def test_who_is_stalled_is_late_and_costs_no_core() -> None:
    usual = run(loads(1, stream()))
    stalled = NetworkCosts()
    for size in (1, 2, 4, 8):
        stalled.add(SPEC, size, BatchCost((5 + size * 5) * MS, 0, 30 * MS))
    late = run(loads(1, stream()), stalled)
    assert late.percentile(50) == pytest.approx(usual.percentile(50) + 30, abs=3)  # type: ignore[operator]
    assert late.cores == pytest.approx(usual.cores, rel=0.02)


def test_a_device_works_beside_the_cores() -> None:
    """A batch keeps a core for 1 ms and the device for 20: the device is what is full."""
    outcome = run(loads(10, stream(50.0, 0.1, 0.1)), network(1, 0, 20), depth=2)
    assert outcome.device > 0.98
    assert outcome.cores < 0.7
    assert outcome.fps == pytest.approx(8 / 0.020, rel=0.05)


def test_a_network_that_lets_one_thread_in_is_a_queue() -> None:
    two = run(loads(8, stream(50.0, 0.1, 0.1)), network(0, 5))
    one = simulate(loads(8, stream(50.0, 0.1, 0.1)), costs({}, network(0, 5)), OPTIONS, seconds=10, exclusive=True)
    assert one.fps == pytest.approx(200, rel=0.05)
    assert two.fps > 1.7 * one.fps


def test_cores_that_others_use_are_missing() -> None:
    assert run(loads(10, stream(50.0)), cores=1.0).fps < 0.55 * run(loads(10, stream(50.0))).fps


def test_it_comes_to_the_same_every_time() -> None:
    first, second = (run(loads(6, stream(30.0))) for _ in range(2))
    assert first == second


def test_very_many_streams_are_looked_at_for_less_time() -> None:
    assert run(loads(100, stream(50.0, 0.01, 0.01)), network(0.1, 0.01)).seconds == pytest.approx(1.0)


class TestHeadroom:
    def found(self, some: list[Load], cores: float = 2.0) -> tuple[float, int, dict[str, int]]:
        given = costs({}, network(0, 5), cores)

        def tried(more: list[Load], speed: float) -> Outcome:
            return simulate(more, given, OPTIONS, seconds=2, speed=speed)

        now = tried(some, 1.0)
        more = headroom(some, given, now, tried)  # type: ignore[arg-type]
        return more.speed, more.mean, more.kinds

    def test_as_many_fit_as_the_cores_pay_for(self) -> None:
        """A frame costs 7.3 ms, a camera of 10 fps 73 ms a second; nine tenths of two cores are worth 24 of them."""
        speed, mean, kinds = self.found(loads(4, stream()))
        assert speed == pytest.approx(24.6 / 4, rel=0.1)
        assert 18 <= mean <= 21
        assert kinds == {"c0": pytest.approx(mean, abs=1)}

    def test_what_is_too_much_has_to_become_less(self) -> None:
        speed, mean, kinds = self.found(loads(60, stream()))
        assert speed == pytest.approx(24.6 / 60, rel=0.1)
        assert -40 <= mean <= -34
        assert kinds == {}

    def test_of_cheaper_cameras_more_fit(self) -> None:
        dear, cheap = stream(decode_ms=20), stream(fps=10, keep=5)
        some = [Load("dear", dear, FRESHEST, 0.1, {}), Load("cheap", cheap, FRESHEST, 0.6, {})]
        assert representatives(some) == ["dear", "cheap"]
        _, mean, kinds = self.found(some)
        assert kinds["cheap"] > mean > kinds["dear"] > 0

    def test_of_cameras_with_a_process_of_their_own_fewer_fit(self) -> None:
        """7.3 ms a frame here, 9.3 with a process: 24 cameras of 10 fps become 19."""
        plain, apart = stream(), replace(stream(), isolation_ms=2.0)
        one, both = loads(1, plain)[0], [*loads(1, plain), replace(loads(1, apart)[0], name="a", isolated=True)]
        assert representatives(both) == [one.name, "a"]
        _, _, kinds = self.found(both)
        assert kinds[one.name] == pytest.approx(22, abs=2)
        assert kinds["a"] == pytest.approx(kinds[one.name] * 7.3 / 9.3, abs=1.5)
        assert run(loads(1, apart)).use["decode"] == pytest.approx(10 * 3.0 / 1000, rel=0.05)

    def test_cameras_with_a_process_of_their_own_are_a_kind_even_where_it_costs_nothing(self) -> None:
        one = loads(1, stream())[0]
        assert representatives([one, replace(one, name="a", isolated=True)]) == [one.name, "a"]

    def test_memory_is_a_limit_of_its_own(self) -> None:
        """1,000 MiB, of which 100 stay free and the program has 400: five processes of 100, here two already."""
        plain, apart = stream(), replace(stream(), isolation_mb=100.0)
        some = [replace(load, isolated=True) for load in loads(2, apart)] + [replace(loads(1, plain)[0], name="t")]
        machine = replace(costs({}), memory_mb=400.0, memory_limit_mb=1000.0)
        assert memory_mb(some, machine) == 600.0

        def tried(more: Sequence[Load], speed: float) -> Outcome:
            return simulate(more, machine, OPTIONS, seconds=3, speed=speed)

        found = headroom(some, machine, tried(some, 1.0), tried)
        assert found.kinds["c0"] == 3
        assert found.kinds["t"] > 10
        assert 2 <= found.mean <= 5
        assert found.memory
        assert has_memory(some, machine)
        assert not has_memory(some, replace(machine, memory_limit_mb=650.0))
        assert has_memory(some, replace(machine, memory_limit_mb=None))

    def test_a_budget_is_a_limit_of_its_own(self) -> None:
        some = loads(2, stream(), Terms(policy="freshest", budget_ns=5 * MS))
        outcome = run(some)
        assert has_reserve(outcome, costs({}))
        assert not holds(outcome, some)  # a batch alone takes longer


@pytest.mark.parametrize("times", [(0.0, 0.0), (0.5, 0.3, 0.1), (0.0,)], ids=["equal", "backwards", "alone"])
def test_time_stamps_that_stand_still_are_no_thousand_frames_a_second(times: tuple[float, ...]) -> None:
    """Files have such stamps; they are played at a usual rate then, and so they are simulated."""
    each = StreamCosts(tuple(FrameCost(at, MS, 0, MS) for at in times), None, SPEC, 64, 48, "h264")
    assert each.fps == pytest.approx(25)
    assert each.lap_s >= 0.04
    outcome = run(loads(1, each))
    assert outcome.wanted_fps <= 25.5 * len(times)
