"""CMDA-OT on Flower: a server that holds the target, and one process for each source, on any machine.

    python -m paramcast.methods.cmda_ot.flower server --target t.npy --classes 10 --clients 3 --out labels.npy
    python -m paramcast.methods.cmda_ot.flower client --source amazon.npz --domain 1 --server HOST:9092

Flower's connection is one stream per client that lives as long as the client does. The end of a client is
noticed at once, and its state (its source, the target that it received, its models) stays in its memory from
round to round. Flower's other way, SuperLink and SuperNodes, starts a new process for every message.
"""

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # Flower reads it on import; 0 turns reports off

ADDRESS = "127.0.0.1:9092"
STEP, OPTIONS, NUMBER, DOMAIN, FAILURE = "step", "options", "number", "domain", "failure"
"""Names of the plain values of a message besides the fields of the dataclass that it carries."""
