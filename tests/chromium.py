# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over its debugging pipe: no driver, no port."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--remote-debugging-pipe",
]


class Refused(Exception):
    """A command was not carried out, for instance because the page went away meanwhile."""


class Page:
    """One page of a browser; commands of the DevTools protocol."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise Refused(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._answers, 1 << 20)
            assert data, "the browser has gone"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def look(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """What kind of screen this is."""
        scale = 2 if phone else 1
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def go(self, url: str) -> None:
        """Navigate; :meth:`until` says when it is there."""
        self.send("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        told = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, expression: str, seconds: float = 15) -> None:
        """Wait in the page until ``expression`` is true."""
        script = (
            f"new Promise(done => {{ const until = Date.now() + {seconds * 1000};"
            f" const look = () => {{ let good = false; try {{ good = {expression}; }} catch {{}}"
            " if (good || Date.now() > until) done(!!good); else setTimeout(look, 30); }; look(); })"
        )
        for _ in range(5):  # it may take a page or two
            try:
                found = self.run(script)
                break
            except Refused:
                found = False
        assert found, f"never true: {expression}; {self.complaints()}; {self.run('document.body.innerText')}"

    def key(self, key: str, code: int) -> None:
        """Press and release a key."""
        text = {"text": {"Enter": "\r"}.get(key, key)} if key in ("Enter", " ") else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)
            text = {}

    def complaints(self) -> list[str]:
        """What the console holds: errors, and what the page's policy forbade."""
        self.run("0")
        found = []
        for event in self.events:
            if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
                found.append(event["params"]["entry"]["text"])
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
        return found


@contextmanager
def browser(profile: Path, *options: str) -> Iterator[Page]:
    """A browser with one page; ``profile`` is its own folder, ``options`` are more of its command line."""
    assert CHROMIUM is not None
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()

    # The browser reads at 3 and writes at 4.
    script = f'exec 3<&{command_read} 4>&{answer_write}; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", CHROMIUM, *OPTIONS, *options, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(command_read, answer_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(command_read)
    os.close(answer_write)
    try:
        page = Page(command_write, answer_read)
        yield page
        page._session = None
        os.write(command_write, b'{"id": 0, "method": "Browser.close"}\0')
        process.wait(10)
    finally:
        os.close(command_write)
        os.close(answer_read)
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
