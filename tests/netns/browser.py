"""Debian's Chromium without a screen, driven by its DevTools protocol over a pipe (--remote-debugging-pipe).

Messages are JSON objects with an octet 0 after each (https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mpt.lab.hosts import Host
from mpt.lab.process import Process

PATIENCE: Final = 20.0  # s for an answer: a browser starts slowly on a busy machine
# the pipe's ends must be descriptors 3 and 4
_START: Final = 'exec 3<&"$1" 4>&"$2"; shift 2; exec chromium "$@"'
_OPTIONS: Final = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--force-device-scale-factor=1",
)


class Browser:
    """One page in a browser on `host`; made by `browser`. `complaints`: what the page has written to the console, its
    exceptions, and what could not be loaded."""

    def __init__(self, receiver: int, sender: int, process: Process) -> None:
        self.complaints: list[str] = []
        self._receiver, self._sender, self._process = receiver, sender, process
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Load `url` and all that belongs to it."""
        failure = self.call("Page.navigate", url=url).get("errorText")
        assert failure is None, f"{url}: {failure}"
        self.wait_until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, scheme: str) -> None:
        """Let the user prefer "dark" or "light"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def value(self, script: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_until(self, script: str, timeout: float = PATIENCE) -> float:
        """Wait until a JavaScript expression is true; return the seconds that it took."""
        began = time.monotonic()
        while not self.value(script):
            assert time.monotonic() - began < timeout, f"not within {timeout:g} s: {script}\n{self.text()}"
            time.sleep(0.02)
        return time.monotonic() - began

    def text(self) -> str:
        """Return the text of the page."""
        return str(self.value("document.body.innerText"))

    def press(self, key: str) -> None:
        """Press and release a key, such as Tab."""
        codes = {"Tab": 9}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def names(self) -> set[tuple[str, str]]:
        """Return role and name of everything that a screen reader tells."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return {(each["role"]["value"], each.get("name", {}).get("value", "")) for each in nodes if not each["ignored"]}

    def screenshot(self, file: Path) -> None:
        """Write a picture of the whole page (PNG)."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._sender, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _note(self, event: str, found: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = found["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{found['entry']['text']} {found['entry'].get('url', '')}")
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{found['type']}: {found['args']}")

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            assert select.select([self._receiver], [], [], max(0.0, end - time.monotonic()))[0], "no answer"
            octets = os.read(self._receiver, 1 << 20)
            assert octets, f"the browser has ended: {self._process.complaint()}"
            self._rest += octets
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextmanager
def browser(host: Host, directory: Path) -> Iterator[Browser]:
    """Run a browser on `host` while the block runs, with its files in `directory`."""
    (commands, sender), (receiver, answers) = os.pipe(), os.pipe()
    commands, answers = _above_4(commands), _above_4(answers)
    argv = ["bash", "-c", _START, "bash", str(commands), str(answers), *_OPTIONS, f"--user-data-dir={directory}/home"]
    process = host.start(argv, pass_fds=(commands, answers), variables={"HOME": str(directory)})
    os.close(commands)
    os.close(answers)
    try:
        yield Browser(receiver, sender, process)
    finally:
        os.close(sender)  # which ends it
        os.close(receiver)
        host.end(process)


def _above_4(fd: int) -> int:
    """Return the same pipe at a number that the redirections do not take first."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 5)
    os.close(fd)
    return moved
