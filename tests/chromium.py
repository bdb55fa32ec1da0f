"""Chromium without a window, driven through the pipe of its own debugging protocol."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
# Chromium reads commands from descriptor 3 and answers on 4.
MOVE = "import os, sys; a = sys.argv; os.dup2(int(a[1]), 3); os.dup2(int(a[2]), 4); "
MOVE += "os.execv(a[3], a[3:])"
OPTIONS = [
    *("--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run"),
    *("--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars"),
    # Its sandbox wants privileges that a container does not give, nor root.
    "--no-sandbox",
]
# What is wider than its place, outside of boxes that scroll; what lies outside the window.
CUT_OFF = """
[...document.body.querySelectorAll("*")].filter((element) => {
  const box = element.getBoundingClientRect();
  if (!box.width || !box.height || element.parentElement.closest(".scroll")) return false;
  const block = getComputedStyle(element).display !== "inline";
  const scrolls = element.matches(".scroll");
  const cut = block && !scrolls && element.scrollWidth > element.clientWidth + 1;
  return cut || box.left < -0.5 || box.right > WIDTH + 0.5;
}).map((element) => element.outerHTML.slice(0, 200))
"""
# Text that a box's edge hides although the box does not scroll.
HIDDEN_TEXT = """
[...document.querySelectorAll("td, th, caption, figcaption, summary, button, p, li, a, h1, h2, h3")]
  .filter((element) => element.clientWidth && element.scrollWidth > element.clientWidth + 1)
  .map((element) => element.outerHTML.slice(0, 200))
"""


class RefusedError(Exception):
    """The browser could not do what it was told."""


class Browser:
    """One page of one browser; `errors` and `requests` are what the page said and asked for."""

    def __init__(self, profile):
        ends = [*os.pipe(), *os.pipe()]
        # Above 3 and 4, so that moving one does not close the other.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in ends]
        for end in ends:
            os.close(end)
        theirs_in, self._to, self._from, theirs_out = high
        chromium = [PROGRAM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", MOVE, str(theirs_in), str(theirs_out), *chromium],
            pass_fds=[theirs_in, theirs_out],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._rest, self._session = 0, b"", None
        self.errors, self.requests, self.loaded = [], [], False
        (target,) = [
            t for t in self.command("Target.getTargets")["targetInfos"] if t["type"] == "page"
        ]
        self._session = self.command(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def command(self, method, **parameters):
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RefusedError(method, answer["error"])
        return answer["result"]

    def _read(self, seconds=60):
        end = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0, end - time.monotonic()))
            assert ready, "chromium does not answer"
            data = os.read(self._from, 1 << 20)
            assert data, "chromium has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        method, parameters = event["method"], event["params"]
        if method == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            self.errors.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True

    def open(self, path, width, height=800):
        """Load a file into a window; a phone's below 600 px."""
        self.width = width
        self.command(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.errors, self.requests, self.loaded = [], [], False
        self.command("Page.navigate", url=path.resolve().as_uri())
        while not self.loaded:
            self._note(self._read())

    def ask(self, expression, inside=False):
        """Return the value of a JavaScript expression, in the page or in its only frame."""
        where = {}
        if inside:
            (frame,) = self.command("Page.getFrameTree")["frameTree"].get("childFrames", [])
            world = self.command("Page.createIsolatedWorld", frameId=frame["frame"]["id"])
            where = {"contextId": world["executionContextId"]}
        done = self.command("Runtime.evaluate", expression=expression, returnByValue=True, **where)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def click(self, selector, number=0):
        """Click with the mouse on the middle of an element that rests and can be seen there."""
        last = None
        while (place := self._middle(selector, number)) != last:
            last = place
            time.sleep(0.1)
        x, y, hit = place
        assert hit, f"{selector}, {number} is covered or outside"
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    def _middle(self, selector, number):
        return self.ask(
            f"""(() => {{
              const element = document.querySelectorAll({json.dumps(selector)})[{number}];
              element.scrollIntoView({{block: "center", inline: "center"}});
              const box = element.getBoundingClientRect();
              const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
              return [x, y, element.contains(document.elementFromPoint(x, y))];
            }})()"""
        )

    def until(self, expression, inside=False, seconds=20):
        """Wait until an expression is true; a frame may still be on its way to its document."""
        end = time.monotonic() + seconds
        while not self._is_true(expression, inside):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def _is_true(self, expression, inside):
        try:
            return self.ask(f"Boolean({expression})", inside)
        except RefusedError:
            if not inside:
                raise
            return False

    def press(self, key):
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def cut_off(self):
        """Return the elements that do not fit the window or their place."""
        wide = self.ask("document.documentElement.scrollWidth")
        found = self.ask(CUT_OFF.replace("WIDTH", str(self.width))) + self.ask(HIDDEN_TEXT)
        return found + ([f"the page is {wide} px wide"] if wide > self.width else [])

    def screenshot(self, path):
        """Keep the whole page as a PNG."""
        picture = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self):
        """End the browser."""
        with contextlib.suppress(AssertionError, OSError):
            self._session = None
            self.command("Browser.close")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._to)
        os.close(self._from)
