# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: a page as headless Chromium shows it, at a given width.  Driven over two pipes (--remote-debugging-pipe): messages
are JSON with a NUL behind each."""
import base64, json, os, select, shutil, subprocess, tempfile, time, zlib

PROGRAM = "/usr/bin/chromium"

class Browser:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="browser-")
        to, self.to = os.pipe()
        self.of, of = os.pipe()
        self.rest, self.number = b"", 0
        # The program takes its orders on 3 and answers on 4; these pages are our own, so root needs no sandbox.
        self.process = subprocess.Popen(
            ["sh", "-c", f'exec 3<&{to} 4>&{of}; exec "$@"', "sh", PROGRAM, "--headless", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={self.dir}", "about:blank"],
            pass_fds=(to, of), env={**os.environ, "HOME": self.dir}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(to)
        os.close(of)
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def message(self, limit):
        deadline = time.monotonic() + limit
        while b"\0" not in self.rest:
            assert select.select([self.of], [], [], max(0, deadline - time.monotonic()))[0], "the browser does not answer"
            data = os.read(self.of, 1 << 20)
            assert data, "the browser has ended"
            self.rest += data
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, session=None, limit=40, **parameters):
        self.number += 1
        order = {"id": self.number, "method": method, "params": parameters}
        if session:
            order["sessionId"] = session
        os.write(self.to, json.dumps(order).encode() + b"\0")
        while (m := self.message(limit)).get("id") != self.number:
            pass
        assert "error" not in m, f"{method}: {m['error']}"
        return m["result"]

    def show(self, url, width, height):
        """What a person with such a screen sees: (width of the page, its text, PNG)"""
        self.ask("Emulation.setDeviceMetricsOverride", self.session, width=width, height=height, deviceScaleFactor=1,
                 mobile=width < 600)
        self.ask("Page.navigate", self.session, url=url)
        deadline = time.monotonic() + 20
        def value(what):
            return self.ask("Runtime.evaluate", self.session, expression=what)["result"].get("value")
        while value("document.readyState") != "complete" or value("location.href") == "about:blank":
            assert time.monotonic() < deadline, "the page does not become complete"
            time.sleep(.1)
        wide = value("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
        png = base64.b64decode(self.ask("Page.captureScreenshot", self.session, format="png")["data"])
        return wide, value("document.body.innerText"), png

    def stop(self):
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.to)
        os.close(self.of)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

def size(png):
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")

def different_rows(png):
    """Of an image that shows something many rows differ; of an empty one none does"""
    data, at = b"", 8
    while at < len(png):
        n = int.from_bytes(png[at:at + 4], "big")
        if png[at + 4:at + 8] == b"IDAT":
            data += png[at + 8:at + 8 + n]
        at += n + 12
    data, rows = zlib.decompress(data), size(png)[1]
    n = len(data) // rows
    return len({data[i * n:(i + 1) * n] for i in range(rows)})
