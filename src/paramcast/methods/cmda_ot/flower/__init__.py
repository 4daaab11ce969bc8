"""CMDA-OT on Flower: a server that holds the target, and one process for each source, wherever it is.

    python -m paramcast.methods.cmda_ot.flower server --target t.npy --classes 10 --clients 3 --out labels.npy
    python -m paramcast.methods.cmda_ot.flower client --source amazon.npz --domain 1 --server HOST:9092

Flower's connection is one stream per client that lives as long as the client does: one that dies is noticed
at once, and its state (its source, the target it was sent, its models) stays in its own memory from round to
round. Flower's other way, SuperLink and SuperNodes, starts a process anew for every message.
"""

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # Flower reads it on import: it reports nothing

ADDRESS = "127.0.0.1:9092"
STEP, OPTIONS, NUMBER, DOMAIN, FAILURE = "step", "options", "number", "domain", "failure"
"""Plain values of a message beside those of the dataclass that it carries."""
