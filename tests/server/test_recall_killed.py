"""A process that is killed while it records a recall: all of it is on record afterwards, or nothing."""

from __future__ import annotations

import subprocess
import sys

from backends import TinyBackend
from bundles import MODEL

from paramcast.protocol import make_key, open_notice, public_key_hex
from paramcast.server import AdaptService, Database
from paramcast.server.db import events, published, recalls
from paramcast.server.db.database import journal_of

KEY = make_key()
# Each transaction calls back, sends to the base or not, and rolls back: half of it would be seen.
RECALLS = """
import signal, sys
from paramcast.server import Database
from paramcast.server.db import published, recalls
database, model, before = Database.open(sys.argv[1]), sys.argv[2], int(sys.argv[3])
whole = {"model": model, "form": "codes", "task": "qa", "share": 100}
for turn in range(before + 1, before + 60):
    with database.writing("ann") as connection:
        recalls.call_back(connection, model, 1000 * turn)
        recalls.send_to_base(connection, model, turn % 2 == 1, turn)
        published.publish(connection, digest=f"{turn:064x}", now_ms=turn, **whole)
        published.withdraw(connection, model, turn)
    print(turn, flush=True)  # the command has said that it is done
signal.pause()
"""


def test_a_recall_is_recorded_whole_or_not_at_all(url: str) -> None:
    database = Database.open(url)
    with database.writing("ann") as connection:
        published.publish(
            connection, model=MODEL, digest="f" * 64, form="codes", task="qa", share=100, now_ms=1
        )
    turn = 0
    for lines in (1, 7, 20):
        words = [sys.executable, "-c", RECALLS, url, MODEL, str(turn)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        told += process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
        last = max(int(line) for line in told if line.strip())

        with database.reading() as connection:
            found = recalls.recall_of(connection, MODEL)
            acts = [one for one in events.newest(connection, 10_000) if one.what == "recalled"]
        turn = found.since // 1000
        assert last <= turn <= last + 1  # what was said to be done is done
        assert found.to_base == (turn % 2 == 1)
        assert len(found.withdrawn) == turn
        assert len(acts) == 3 * turn
        service = AdaptService(TinyBackend("codes"), KEY, lifetime_s=60, database=database)
        notice = open_notice(service.notices.of(MODEL) or b"", public_key_hex(KEY), model=MODEL)
        assert (notice.number, notice.since, notice.to_base) == (found.number, turn, found.to_base)
        assert notice.withdrawn == found.withdrawn
        if (journal := journal_of(url)) is not None:
            numbers = [one["number"] for one in journal if one["what"] == "recalled"]
            newest = len(numbers) - 1 - numbers[::-1].index(found.number)
            assert len(numbers) - newest in (1, 4)  # the last act may be in the journal alone, and whole
    database.close()
