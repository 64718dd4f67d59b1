"""What a server and its decoders take while something is asked of them: memory and seconds of the processor, from /proc."""

import os
import threading
from pathlib import Path


class Watch:
    """A block during which a process and its children are watched; `megabytes` and `seconds` are what they took beyond before.

    Memory is that of all of them together, sampled every 5 ms; where a high-water mark rose since the last sample, that counts. A child
    that starts within takes the place of another.
    """

    def __init__(self, process: int):
        self.process, self._over, self.megabytes = process, threading.Event(), 0.0
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self):
        self._before = self._now()
        children = [told[0] for one, told in self._before.items() if one != self.process]
        self._usual = sum(children) / max(len(children), 1)  # of a child
        self._last = dict(self._before)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self._look()
        ticks = (told[2] - self._before.get(one, (0, 0, 0))[2] for one, told in self._last.items())
        self.seconds = sum(ticks) / os.sysconf("SC_CLK_TCK")

    def _sample(self):
        while not self._over.wait(0.005):
            self._look()

    def _look(self):
        more = 0.0
        for one, (size, mark, ticks) in self._now().items():
            rose = mark > self._last.get(one, (0, mark))[1]
            more += (mark if rose else size) - self._before.get(one, (self._usual,))[0]
            self._last[one] = size, mark, ticks
        self.megabytes = max(self.megabytes, more)

    def _now(self):
        return {one: told for one in self._processes() if (told := _told(one))}

    def _processes(self):
        lists = Path(f"/proc/{self.process}/task").glob("*/children")  # each thread has its own children
        return [self.process, *(int(child) for one in lists for child in _text(one).split())]


def resident(process: int) -> float:
    """MB of a process."""
    return _told(process)[0]


def _told(process):
    """(MB now, MB at most so far, ticks of the processor), None where it is gone."""
    status, stat = _text(f"/proc/{process}/status"), _text(f"/proc/{process}/stat")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    if "VmRSS" not in fields or not stat:
        return None
    words = stat.rpartition(")")[2].split()
    return (
        int(fields["VmRSS"].split()[0]) / 1024,
        int(fields["VmHWM"].split()[0]) / 1024,
        int(words[11]) + int(words[12]),
    )


def _text(place):
    try:
        return Path(place).read_text()
    except OSError:
        return ""
