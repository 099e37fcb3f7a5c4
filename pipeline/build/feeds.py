# SPDX-License-Identifier: Apache-2.0
"""The streams that the configuration asks for: a source, its wrappers and its stages."""

from __future__ import annotations

from functools import partial
from typing import Any

from pipeline.arrivals import Recorder, told_to, watched, watching
from pipeline.config.credentials import resolve_source
from pipeline.config.streams import StreamConfig, StreamSettings
from pipeline.errors import ConfigError, SourceUnavailable
from pipeline.flow.lanes import Terms
from pipeline.flow.stream import Stream, Witness, unwatched
from pipeline.ledger import StreamLedger
from pipeline.protocols import Source
from pipeline.redact import SourceUrl
from pipeline.sources import (
    FILE_CODECS,
    Absent,
    AutoSkip,
    CameraSource,
    DeviceSource,
    FileSource,
    Gate,
    IsolatedSource,
    Isolation,
    Looping,
    Paced,
    PatternSource,
    Pausable,
    Reconnecting,
    Skip,
    Thinner,
    knock,
    local_path,
    looks_live,
)
from pipeline.sources.naming import shown
from pipeline.sources.opening import Limits
from pipeline.stages import Letterbox, Region
from pipeline.threads import Policy
from pipeline.timing import PlayoutDelay


def recording(name: str, source: SourceUrl, settings: StreamSettings, *, limit: int | None = None) -> Stream:
    """A stream that is read once, losslessly, from its beginning to its end.

    Its decoder has one thread: with frame threads libav conceals damage in a way that depends on their timing, and the
    same file would not always give the same results.
    """
    reader: Source
    if source.scheme == "pattern":
        reader = PatternSource(source.reveal())
    else:
        reader = _file(settings, source, _fixed(settings))
    paced = settings.pace == "realtime"
    # Of what is read as fast as it can be used, frames wait for as long as the work before them takes.
    account = StreamLedger(
        name,
        source=shown(source),
        paced=paced,
        budget_ns=_nanoseconds(settings.latency_budget_ms) if paced else None,
        playout=playout(settings) if paced else None,
    )
    return Stream(
        Paced(reader) if paced else reader,
        [_letterbox(settings)],
        account,
        terms=Terms(settings.share),
        keep=Thinner(fps=settings.fps, stride=settings.stride).keep,
        limit=limit,
        drop_corrupt=settings.corrupt == "drop",
    )


def absent(name: str, reason: str) -> Stream:
    """A stream that fails with ``reason`` as soon as it is opened: a path among others that does not exist."""
    return Stream(Absent(reason), [], StreamLedger(name))


def feed(
    config: StreamConfig,
    gate: Gate | None = None,
    recorder: Recorder | None = None,
    apart: list[Isolation] | None = None,
) -> Stream:
    """A stream of the daemon: a camera that is reconnected for ever, or a recording, perhaps looped, at its own pace.

    ``gate`` bounds how many cameras connect at the same time; ``recorder`` keeps what comes. ``apart``: a recording
    that plays a camera is read in a process of its own, as that would be, and the process is added to the list.

    Raises ConfigError when its credentials cannot be had.
    """
    source = resolve_source(config)
    live = looks_live(source.reveal())
    terms = _terms(config, config.effective_policy)
    paced = live or config.pace == "realtime"
    account = StreamLedger(
        config.name,
        source=shown(source),
        live=live,
        paced=paced,
        budget_ns=terms.budget_ns,
        playout=playout(config) if paced else None,
    )
    skip = skipping(config, config.name)
    reader: Source
    camera: Reconnecting | None = None
    watcher = watching(config, recorder, "camera" if live else "recording")
    on_state = told_to(account.at, watcher)
    if (live and source.scheme != "pattern") or apart is not None:
        home: Isolation | None = None
        if config.isolation == "process" or apart is not None:
            home = Isolation(
                config.name,
                memory_mb=config.isolation_memory_mb,
                largest_picture=3 * config.max_pixels,
                receiver=watcher,
            )
            if apart is not None:
                apart.append(home)

        def connection() -> Source:
            try:
                resolved = resolve_source(config)
                if home is not None:
                    return _isolated(home, config, resolved, skip)
                return watched(_camera(config, resolved, skip), watcher)
            except ConfigError as error:  # its password was there at the start; a rotated file comes back
                raise SourceUnavailable(str(error), cause="auth") from error

        release = (lambda: None) if home is None else home.close
        reader = camera = Reconnecting(
            connection,
            name=config.name,
            on_state=on_state,
            gate=gate,
            knock=partial(knock, source, config.open_timeout_s) if live and not _is_device(source) else None,
            release=release,
        )
    elif source.scheme == "pattern":
        reader = PatternSource(source.reveal())
    elif config.loop:
        reader = Looping(lambda: watched(_file(config, source, skip), watcher))
    else:
        reader = watched(_file(config, source, skip), watcher)
    # A recording that plays a camera is held inside its pacing: what was not seen is not caught up.
    reader = pausable = Pausable(reader, name=config.name, on_state=on_state, hang_up=camera is not None)
    if source.scheme == "pattern":
        reader = Paced(reader, wall=live)
    elif not live and config.pace == "realtime" and apart is None:
        reader = Paced(reader, wall=True)
    return Stream(
        reader,
        [_letterbox(config)],
        account,
        terms=terms,
        keep=Thinner(fps=config.fps, stride=config.stride).keep,
        drop_corrupt=config.corrupt == "drop",
        pause=pausable.pause,
        wake=None if camera is None else camera.wake,
        witness=unwatched if watcher is None else watcher.outcome,
    )


def skipping(settings: StreamSettings, name: str) -> Skip | AutoSkip:
    """What the decoder of a feed leaves out."""
    if settings.skip == "auto" and settings.fps is not None and settings.stride == 1:
        return AutoSkip(settings.fps, name)
    return _fixed(settings)


def glance(config: StreamConfig) -> Source:
    """A stream's source as ``check`` and ``probe`` look at it: once, as fast as it comes, without reconnecting.

    Raises ConfigError when its credentials cannot be had.
    """
    source = resolve_source(config)
    if source.scheme == "pattern":
        return PatternSource(source.reveal())
    look = _camera if looks_live(source.reveal()) else _file
    return look(config, source, _fixed(config))


def played(
    reader: Source, settings: StreamSettings, account: StreamLedger, *, limit: int | None, witness: Witness
) -> Stream:
    """A stream of the daemon that was recorded: what arrived then, through the stages that it went through then."""
    return Stream(
        reader,
        [_letterbox(settings)],
        account,
        terms=_terms(settings, settings.policy or "freshest"),
        keep=Thinner(fps=settings.fps, stride=settings.stride).keep,
        limit=limit,
        drop_corrupt=settings.corrupt == "drop",
        witness=witness,
    )


def budget_ns(settings: StreamSettings) -> int | None:
    """``latency_budget_ms`` in nanoseconds."""
    return _nanoseconds(settings.latency_budget_ms)


def playout(settings: StreamSettings) -> PlayoutDelay | None:
    """``playout_delay_ms``; None without one. One that follows the stream keeps to its budget."""
    delay = settings.playout_delay_ms
    if delay is None:
        return None
    if isinstance(delay, str):
        percentile = 99 if delay == "auto" else int(delay.removeprefix("p"))
        return PlayoutDelay(percentile=percentile, most_ns=budget_ns(settings))
    return PlayoutDelay(round(delay * 1e6))


def decoder_limits(settings: StreamSettings, usual: frozenset[str]) -> Limits:
    """What a stream's decoder may do; ``usual``: the codecs of sources of its kind."""
    codecs = usual if settings.codecs is None else frozenset(settings.codecs)
    return Limits(settings.max_pixels, codecs, hwaccel=settings.hwaccel, low_delay=settings.low_delay)


def _terms(config: StreamSettings, policy: Policy) -> Terms:
    bound_ms = config.max_staleness_ms if policy == "freshest" else None
    return Terms(config.share, policy, _nanoseconds(config.latency_budget_ms), _nanoseconds(bound_ms))


def _nanoseconds(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds * 1e6)


def _fixed(settings: StreamSettings) -> Skip:
    """What the decoder leaves out where nobody watches how the stream behaves."""
    return "none" if settings.skip == "auto" else settings.skip


def _camera(config: StreamConfig, source: SourceUrl, skip: Skip | AutoSkip) -> CameraSource | DeviceSource:
    options = _camera_options(config, source)
    if _is_device(source):
        return DeviceSource(source.reveal(), **options)
    return CameraSource(source, skip=skip, hwaccel=config.hwaccel, **options)


def _is_device(source: SourceUrl) -> bool:
    return source.scheme == "v4l2" or not source.scheme


def _camera_options(config: StreamConfig, source: SourceUrl) -> dict[str, Any]:
    """Keywords of DeviceSource or CameraSource, but for what the decoder leaves out."""
    options: dict[str, Any] = {"max_pixels": config.max_pixels}
    if config.codecs is not None:
        options["codecs"] = frozenset(config.codecs)
    if _is_device(source):
        return options | {"fps": config.fps}
    return options | {
        "transport": config.transport,
        "parser": config.parser,
        "open_timeout_s": config.open_timeout_s,
        "read_timeout_s": config.read_timeout_s,
        "low_delay": config.low_delay,
    }


def _isolated(home: Isolation, config: StreamConfig, source: SourceUrl, skip: Skip | AutoSkip) -> Source:
    """The same camera, or a recording that plays one, in the process of its stream."""
    kind = "copy" if source.is_file else "device" if _is_device(source) else "camera"
    options = _camera_options(config, source) if kind != "copy" else dict[str, Any](max_pixels=config.max_pixels)
    if config.codecs is not None:
        options["codecs"] = sorted(config.codecs)
    auto = (config.fps, config.name) if isinstance(skip, AutoSkip) else None
    if kind != "device" and auto is None:
        options["skip"] = skip
    order = {
        "kind": kind,
        "address": local_path(source.reveal()).as_posix() if kind == "copy" else source.reveal(),
        "auto_skip": auto,
        "options": options,
    }
    open_s, read_s = config.open_timeout_s, config.read_timeout_s
    return IsolatedSource(home, order, open_s=2 * open_s + read_s, read_s=read_s)


def _file(settings: StreamSettings, source: SourceUrl, skip: Skip | AutoSkip) -> FileSource:
    where = local_path(source.reveal()) if source.is_file else source
    codecs = FILE_CODECS if settings.codecs is None else frozenset(settings.codecs)
    return FileSource(where, skip=skip, max_pixels=settings.max_pixels, codecs=codecs, hwaccel=settings.hwaccel)


def _letterbox(settings: StreamSettings) -> Letterbox:
    if settings.region is None:
        return Letterbox()
    return Letterbox(Region.of(settings.region))
