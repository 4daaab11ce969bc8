"""A small RTSP server (RFC 2326): it plays H.264 (RFC 6184) once over the TCP connection, then closes it."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

CLOCK = 90_000  # ticks per second of RTP timestamps


@contextmanager
def playing(pictures: Sequence[bytes], rate: int) -> Iterator[str]:
    """Serve coded pictures (Annex B, with parameter sets) with times of `rate` a second; yield the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=(listener, pictures, rate))
    thread.start()
    try:
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live"
    finally:
        listener.close()
        thread.join(10)


def _serve(listener: socket.socket, pictures: Sequence[bytes], rate: int) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as lines:
        while request := _read(lines):
            method, number = request
            connection.sendall(_reply(method, number, listener.getsockname()[1]))
            if method == "PLAY":
                for packet in _packets(pictures, rate):
                    connection.sendall(b"$\x00" + struct.pack(">H", len(packet)) + packet)
                return


def _read(lines: object) -> tuple[str, str] | None:
    head = b""
    for line in lines:  # type: ignore[attr-defined]
        head += line
        if line == b"\r\n":
            text = head.decode()
            number = re.search(r"CSeq: *(\d+)", text)
            return text.split()[0], number[1] if number else "0"
    return None


def _reply(method: str, number: str, port: int) -> bytes:
    headers, body = {"CSeq": number}, b""
    if method == "OPTIONS":
        headers["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
    if method == "DESCRIBE":
        lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=test", "c=IN IP4 127.0.0.1", "t=0 0"]
        lines += ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000", "a=control:track"]
        body = "".join(f"{line}\r\n" for line in lines).encode()
        headers |= {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
        headers["Content-Base"] = f"rtsp://127.0.0.1:{port}/live/"
    if method == "SETUP":
        headers |= {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1", "Session": "1"}
    if method == "PLAY":
        headers["Session"] = "1"
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"RTSP/1.0 200 OK\r\n{text}\r\n".encode() + body


def _packets(pictures: Sequence[bytes], rate: int) -> Iterator[bytes]:
    """Yield an RTP packet for each NAL unit."""
    sequence = 0
    for place, picture in enumerate(pictures):
        units = [unit for unit in re.split(b"\x00\x00\x00?\x01", picture) if unit]
        for unit in units:
            last = 0x80 if unit is units[-1] else 0
            yield struct.pack(">BBHII", 0x80, last | 96, sequence, place * CLOCK // rate, 1) + unit
            sequence += 1
