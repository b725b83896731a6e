"""Headless Chromium over its debugging pipe: opens a page, runs scripts, tells what failed."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page in a browser of its own; a context manager.

    Attributes:
        requests: addresses that the page asked for, apart from data: and blob:.
        complaints: uncaught exceptions and errors on the console.
    """

    def __init__(self, profile):
        self.requests, self.complaints, self.replies = [], [], {}
        self.number, self.buffer, self.loaded = 0, b"", False
        to_browser, self.write_end = os.pipe()
        self.read_end, from_browser = os.pipe()

        def place_pipes():
            # Chromium reads commands from descriptor 3 and writes to 4
            first, second = os.dup(to_browser), os.dup(from_browser)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self.process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "--window-size=1400,1000",
                f"--user-data-dir={profile}",
                "--remote-debugging-pipe",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=place_pipes,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.session = None
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.command("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.command(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.write_end)
        os.close(self.read_end)

    def open(self, path, seconds=60):
        """Loads a file and waits until its scripts have run."""
        self.visit(path.as_uri(), seconds)

    def visit(self, address, seconds=60):
        """Loads what is at an address, of this machine, and waits until its scripts have run."""
        self.loaded = False
        reply = self.command("Page.navigate", url=address)
        assert "errorText" not in reply, f"{address}: {reply['errorText']}"
        self._until(lambda: self.loaded, seconds, f"{address} did not load")
        self.wait_for("document.readyState === 'complete'")

    def run(self, script):
        """The value of a JavaScript expression, which may be a promise."""
        reply = self.command(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def wait_for(self, condition, seconds=30):
        """Waits until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never true in the page: {condition}"
            time.sleep(0.1)

    def screenshot(self, path):
        data = self.command("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def command(self, method, **params):
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        self._until(lambda: number in self.replies, 60, f"no answer to {method}")
        reply = self.replies.pop(number)
        assert "error" not in reply, reply
        return reply["result"]

    def _until(self, done, seconds, problem):
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline and self.process.poll() is None, problem
            if select.select([self.read_end], [], [], 0.2)[0]:
                self.buffer += os.read(self.read_end, 1 << 20)
                *messages, self.buffer = self.buffer.split(b"\0")
                for message in messages:
                    self._receive(json.loads(message))

    def _receive(self, message):
        params, method = message.get("params", {}), message.get("method")
        if "id" in message:
            self.replies[message["id"]] = message
        elif method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            if not address.startswith(("data:", "blob:", "about:")):
                self.requests.append(address)
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"])
