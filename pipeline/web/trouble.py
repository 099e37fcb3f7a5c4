# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a stream at this moment, in words: also with one whose source says that all is well."""

from __future__ import annotations

import math

from pipeline.ledger import ENDED, FROZEN_NS, StreamLedger
from pipeline.redact import scrub

_DARK = ENDED | {"paused", "backoff", "auth_failed"}
"""States in which no picture is to be expected."""
_USUAL_S = 5
FRUITLESS_NS = 3_000_000_000


def _waited_ns(account: StreamLedger, now_ns: int) -> int:
    return now_ns - max(account.last_result_ns, account.opened_ns)


def is_fruitless(account: StreamLedger, now_ns: int) -> bool:
    """Whether it is live, but nothing could be made of its latest frames: of a single one that says nothing."""
    return account.state == "live" and account.life.cause is not None and _waited_ns(account, now_ns) >= FRUITLESS_NS


def cause(account: StreamLedger, now_ns: int) -> str | None:
    """Why it is not live, or gives no results although it is."""
    return None if account.state == "live" and not is_fruitless(account, now_ns) else account.life.cause


def detail(account: StreamLedger, now_ns: int) -> str | None:
    """The same as one line for people, free of secrets; also of a camera whose picture does not change."""
    if is_fruitless(account, now_ns):
        return scrub(f"no result for {_waited_ns(account, now_ns) / 1e9:.0f} s: {account.error}")
    if account.error and account.state != "live":
        return scrub(account.error)
    if account.state == "live" and account.still_ns >= FROZEN_NS:
        return f"the picture has not changed for {account.still_ns // 1_000_000_000} s"
    return None


def no_picture(account: StreamLedger, now_ns: int) -> tuple[str, int] | None:
    """Why no picture of it is to be expected, and in how many seconds it is worth asking again; None: one may come."""
    if account.state in _DARK:
        why, next_ns = detail(account, now_ns), account.life.next_try_ns
        wait_s = _USUAL_S if next_ns is None else math.ceil(max(0, next_ns - now_ns) / 1e9) + 1
        return f"this stream is {account.state}" + (f": {why}" if why else ""), wait_s
    if is_fruitless(account, now_ns):
        return detail(account, now_ns) or "", _USUAL_S
    return None


def none_came(account: StreamLedger, waited_s: float, now_ns: int) -> str:
    """What to say to somebody who waited for a picture that might have come."""
    if not account.last_result_ns:
        newest = "there has been none yet"
    else:
        newest = f"the newest is {(now_ns - account.last_result_ns) / 1e9:.1f} s old"
    why = detail(account, now_ns)
    return f"no result came within {waited_s:g} s, {newest}" + (f": {why}" if why else "")
