"""A process with children that apply an update and are killed at every step of it.

The argument is a folder with a bundle, the updates 1 to 3 and the server's key. The process prints a line
of JSON for each child: the step at which it was killed, and the state that a restart then finds.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paramcast.device import DeviceRuntime

WRITES = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "tempfile.mkstemp")


def main(folder: Path) -> None:
    packages = [(folder / f"{number}.pcpk").read_bytes() for number in (1, 2, 3)]
    key = (folder / "key").read_text()

    def take_two(store: Path, step: Callable[[], None] = lambda: None) -> None:
        runtime = DeviceRuntime.load(folder / "bundle", "cam-1", store=store)
        if runtime.public_key is None:
            runtime.trust(key)
        runtime.apply(packages[0])
        step()
        runtime.apply(packages[1])
        runtime.roll_back(1)

    for number in range(1, 1000):
        store = folder / f"store-{number}"
        killed = child(lambda store=store, number=number: killed_at(number, lambda: take_two(store)))
        report(folder, store, packages[2], f"step {number}")
        if not killed:
            break
    for size in range(0, len(packages[1]), len(packages[1]) // 5):
        store = folder / f"store-size-{size}"
        child(lambda store=store, size=size: take_two(store, lambda: killed_at_byte(size)))
        report(folder, store, packages[2], f"byte {size}")


def child(work: Callable[[], None]) -> bool:
    """Run `work` in a child process; return whether it was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print("child failed", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXFSZ)
        return True
    assert status == 0
    return False


def killed_at(number: int, work: Callable[[], None]) -> None:
    """Run `work`, and kill this process before it changes the file system for the `number`-th time."""
    left = number

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in WRITES or (event == "open" and not writes(args)):
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    work()


def writes(args: tuple[Any, ...]) -> bool:
    _, mode, flags = args
    return any(letter in "wxa+" for letter in mode or "") or bool(flags & (os.O_WRONLY | os.O_RDWR))


def killed_at_byte(size: int) -> None:
    """Let the kernel end this process as soon as a write makes a file longer than `size` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def report(folder: Path, store: Path, newer: bytes, what: str) -> None:
    """Restart in a child with the files that are left, apply a newer update, and print the states."""

    def restart() -> None:
        runtime = DeviceRuntime.load(folder / "bundle", "cam-1", store=store)
        status = runtime.status()
        runtime.trust((folder / "key").read_text())
        runtime.apply(newer)
        halves = [path.name for path in store.rglob(".*.tmp")]
        after = runtime.status()["sequence"]
        print(json.dumps({"what": what, "status": status, "after": after, "halves": halves}), flush=True)

    assert not child(restart)
    shutil.rmtree(store)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
