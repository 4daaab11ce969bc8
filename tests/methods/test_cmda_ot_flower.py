"""CMDA-OT on Flower: real client processes, what they send, and the ones that die or send NaN."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("flwr", reason="needs the extra `flower`")

from test_cmda_ot import FAST, make_domains

from paramcast.methods import CMDAOT
from paramcast.methods.cmda_ot.codec import CodecError, decode, encode
from paramcast.methods.cmda_ot.errors import FederationError, FederationInputError
from paramcast.methods.cmda_ot.flower.__main__ import command
from paramcast.methods.cmda_ot.flower.client import Source, join
from paramcast.methods.cmda_ot.flower.server import connected, serve
from paramcast.methods.cmda_ot.messages import Evidence, Global, Invitation, Update

PATIENCE = 240.0
"""Seconds for whatever a process may have to do; only a hanging test waits so long."""


class Wire:
    """A TCP proxy in front of a server, which keeps all bytes that clients send (`up`) and get (`down`)."""

    def __init__(self, address: str) -> None:
        self._behind = address.rsplit(":", 1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.up, self.down = bytearray(), bytearray()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((self._behind[0], int(self._behind[1])))
            except OSError:
                near.close()  # the server is not there yet: the client tries again
                continue
            self._sockets += [near, far]
            for source, sink, kept in ((near, far, self.up), (far, near, self.down)):
                threading.Thread(target=self._pass, args=(source, sink, kept), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        try:
            while data := source.recv(65536):
                kept += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # either side has gone: what it sent so far is kept

    def close(self) -> None:
        for each in self._sockets:
            each.close()


@contextmanager
def running(*commands: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    with ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(command)) for command in commands]
        stack.callback(lambda: [process.kill() for process in processes])
        yield processes


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def seen(values: np.ndarray, data: bytes) -> int:
    """How many rows of `values` (n, D) are in `data`: any number as float64, or the row as float32."""
    return sum(
        row.astype(np.float32).tobytes() in data or any(number.tobytes() in data for number in row)
        for row in values
    )


def test_the_same_as_in_one_process_and_no_sample_leaves_a_client(tmp_path: Path) -> None:
    X, y, domain = make_domains()
    in_one = CMDAOT(**FAST).fit(X, y, domain)
    address = free_address()
    wire = Wire(address)
    commands = []
    for number in (1, 2):
        file = tmp_path / f"{number}.npz"
        np.savez(file, X=X[domain == number], y=y[domain == number])
        module = [sys.executable, "-m", "paramcast.methods.cmda_ot.flower", "client"]
        commands.append([*module, "--source", str(file), "--domain", str(number), "--server", wire.address])
    with running(*commands) as processes:
        served = serve(CMDAOT(**FAST), X[domain < 0], np.arange(3), 2, address, PATIENCE, PATIENCE)
        assert [process.wait(PATIENCE) for process in processes] == [0, 0]  # they were dismissed
    wire.close()

    for name, value in in_one.weights_.items():
        np.testing.assert_allclose(served.weights_[name], value, rtol=1e-5, atol=1e-6)
    assert served.transported_ == in_one.transported_
    assert served.left_out_ == []
    np.testing.assert_array_equal(served.pseudo_labels_, in_one.pseudo_labels_)

    sources, target = X[domain > 0], X[domain < 0]
    assert seen(target, bytes(wire.down)) == len(target)  # as sent: these bytes can be read
    assert seen(sources, bytes(wire.up)) == 0
    for client in in_one.clients(sources, y[domain > 0], domain[domain > 0]):
        assert seen(client._source, bytes(wire.up)) == 0  # nor as it is after alignment
        for kind in (np.int64, np.int32, np.uint8, np.float64, np.float32):
            assert client._labels.astype(kind).tobytes() not in bytes(wire.up)


class Unsound(Source):
    """A client whose training diverges in the second round."""

    def answer(self, step: str, data: bytes, plain: dict[str, Any]) -> Evidence | Update | None:
        answer = super().answer(step, data, dict(plain))
        if isinstance(answer, Update) and plain["round"] == 2:
            return replace(answer, weights={name: value * np.nan for name, value in answer.weights.items()})
        return answer


class Failing(Source):
    """A client that raises when it is asked for evidence."""

    def answer(self, step: str, data: bytes, plain: dict[str, Any]) -> Evidence | Update | None:
        raise MemoryError("too large a plan")


class Killed:
    """A remote client whose process is killed after it was sent round 2 and before it can answer."""

    def __init__(self, remote: Any, pid: int) -> None:
        self.name, self.evidence, self.choose = remote.name, remote.evidence, remote.choose
        self._remote, self._pid = remote, pid

    def update(self, message: Global) -> Update:
        if message.round == 2:
            os.kill(self._pid, signal.SIGSTOP)
            threading.Timer(0.5, os.kill, (self._pid, signal.SIGKILL)).start()
        update: Update = self._remote.update(message)
        return update


def be(kind: type[Source], domain: int, X: np.ndarray, y: np.ndarray, address: str) -> None:
    join(kind(domain, X, y), address)


def test_a_client_that_dies_or_sends_nan_in_a_round_is_left_out() -> None:
    X, y, domain = make_domains()
    X, y, domain = (np.concatenate([each, each[domain == 1]]) for each in (X, y, domain))
    domain[-60:] = 3
    kinds = {1: Source, 2: Unsound, 3: Source, 4: Failing}
    address = free_address()
    model = CMDAOT(**FAST)
    spawn = multiprocessing.get_context("spawn")
    processes = {
        number: spawn.Process(
            target=be,
            args=(kind, number, X[domain == min(number, 3)], y[domain == min(number, 3)], address),
            daemon=True,
        )
        for number, kind in kinds.items()
    }
    for process in processes.values():
        process.start()
    pid = processes[1].pid
    assert pid is not None
    with connected(model, len(kinds), address, PATIENCE, PATIENCE) as (first, *others):
        model.federate(X[domain < 0], np.arange(3), [Killed(first, pid), *others], at_once=4)
    left_out = [(each.step, each.client) for each in model.left_out_]
    assert left_out == [("evidence", "4"), ("round 2", "1"), ("round 2", "2"), ("round 3", "1")]
    reasons = [each.reason for each in model.left_out_]
    assert reasons[0] == "too large a plan"
    assert "it ended" in reasons[1]
    assert "NaN" in reasons[2]
    assert set(model.scores_) == {"2", "3"}  # the one that sent NaN was asked again
    assert all(np.isfinite(value).all() for value in model.weights_.values())
    assert model.score(X[domain < 0], y[domain < 0]) > 0.9
    for number in (2, 3, 4):
        processes[number].join(PATIENCE)
        assert processes[number].exitcode == 0
    processes[1].join(PATIENCE)
    assert processes[1].exitcode == -signal.SIGKILL


def test_clients_that_do_not_come_and_a_server_that_is_not_there() -> None:
    address = free_address()
    with (
        pytest.raises(FederationError, match=r"0 of 1 clients reached .* within 0 s"),
        connected(CMDAOT(), 1, address, 0, 1),
    ):
        pass
    with pytest.raises(FederationError, match="no server"):
        join(Source(1, np.zeros((2, 2)), np.arange(2)), address, wait=0.1)


@pytest.mark.parametrize(
    ("samples", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, 1], "3 columns, the target 2"),
        (np.zeros((2, 2)), [0, 5], "class 5, but there are 3"),
    ],
)
def test_a_source_that_does_not_fit_the_target_says_so(samples: Any, labels: Any, message: str) -> None:
    data, plain = encode(Invitation(np.zeros((4, 2)), np.zeros(4, int), 3))
    with pytest.raises(FederationInputError, match=message):
        Source(1, samples, np.array(labels)).answer("evidence", data, {**plain, "options": "{}", "number": 1})


def test_messages_survive_the_way_and_others_are_refused() -> None:
    rng = np.random.default_rng(0)
    sent = Evidence(
        "2", np.array([True, False]), rng.random((2, 3)), rng.random((5, 2)), rng.random((5, 2)), 0.1 + 0.2, 9
    )
    data, plain = encode(sent)
    got = decode(Evidence, data, plain)
    for name, value in vars(sent).items():
        np.testing.assert_array_equal(getattr(got, name), value)
        assert getattr(getattr(got, name), "dtype", None) == getattr(value, "dtype", None)
    update = Update("1", {"0.weight": np.ones((2, 2), np.float32)}, True)
    np.testing.assert_array_equal(decode(Update, *encode(update)).weights["0.weight"], 1)
    for kind, bad in ((Update, (data, plain)), (Evidence, (data[:-1], plain)), (Evidence, (b"", plain))):
        with pytest.raises(CodecError, match="its message"):
            decode(kind, *bad)


def test_a_source_file_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", X=np.zeros((2, 2)), y=np.array([0.5, 1]))
    np.savez(tmp_path / "nan.npz", X=np.full((2, 2), np.nan), y=np.arange(2))
    np.savez(tmp_path / "no.npz", X=np.zeros((2, 2)))
    for name, message in (
        ("bad.npz", "one class number"),
        ("nan.npz", "finite numbers"),
        ("no.npz", "cannot be read"),
    ):
        result = CliRunner().invoke(command, ["client", "--source", str(tmp_path / name), "--domain", "1"])
        assert isinstance(result.exception, FederationInputError)
        assert message in str(result.exception)
