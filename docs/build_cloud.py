"""Fill the tables of `operations.md` and `threat_model.md` from the files in `experiments/results/`.

python docs/build_cloud.py            # rewrites the tables between the markers
python docs/build_cloud.py --check    # changes nothing; exit code 1 if a page is not up to date
"""

from __future__ import annotations

import sys
import textwrap

from marked_tables import ROOT, Row, fill, markdown, named_rows, only_checking

FLEET, DAY_S, HOUR_S = 1_000_000, 86_400, 3600
LINK_BYTES_S = 125e6
"""Bytes per second of a network of 1 Gbit/s."""

KEEP_DAYS = 30


def capacity() -> str:
    """Make the table of costs and the paragraph of conclusions."""
    soak, wake = named_rows("soak.json"), named_rows("wake.json")
    growth = {
        kind: named_rows(f"registry_{kind}.json")[f"registry_{kind}_1000000"]["ratio"] for kind in KINDS
    }
    cost_ms = soak["soak_processor_time"]["value"]
    up, down, kept = (soak[f"soak_bytes_{name}"]["value"] for name in ("up", "down", "on_record"))
    loaded = named_rows("service.json")["throughput_signed"]["value"]
    most = {"the processor": loaded, "the network": LINK_BYTES_S / max(up, down)}
    first = min(most, key=lambda name: most[name])
    daily, hourly = FLEET / DAY_S, FLEET / HOUR_S
    memory, waking = soak["soak_memory"]["value"], wake["wake_memory"]["value"]
    head = ["", "an adaptation", "a million a day", "most"]
    lines = [
        (
            "processor",
            f"{cost_ms:.2f} ms",
            f"{daily * cost_ms / 10:.1f} % of a core",
            f"{loaded:,.0f}/s a process",
        ),
        *(
            (
                f"network, {way}",
                f"{size:,.0f} bytes",
                f"{FLEET * size / 1e9:.1f} GB",
                f"{LINK_BYTES_S / size:,.0f}/s at 1 Gbit/s",
            )
            for way, size in (("up", up), ("down", down))
        ),
        (
            "disk, on record",
            f"{kept:,.0f} bytes",
            f"{FLEET * kept / 1e6:.0f} MB; {KEEP_DAYS * FLEET * kept / 1e9:.1f} GB in {KEEP_DAYS} days",
            "",
        ),
        (
            "memory of a process",
            "",
            f"{memory:.0f} MB",
            f"{waking:.0f} MB while {wake['wake_served']['value']:,.0f} devices woke at once",
        ),
    ]
    at_once_s = FLEET / (most["the processor"] * wake["wake_rate"]["ratio"])
    share = wake["wake_rate"]["ratio"]
    said = " ".join(
        [
            f"With a million devices known an adaptation takes {growth['sqlite']:.2f} (SQLite) or",
            f"{growth['postgresql']:.2f} (PostgreSQL) times as long as with a hundred.",
            f"A million devices that adapt once a day are {daily:.0f} a second;",
            f"all within one hour, {hourly:.0f} a second, {hourly * cost_ms / 10:.0f} % of a core;",
            f"all in one moment, {at_once_s / 60:.0f} minutes of a process: turning away takes its share,",
            f"and a service then does {100 * share:.0f} % of what it does otherwise.",
            f"**What saturates first is {first}**, at {most[first]:,.0f} adaptations a second.",
        ]
    )
    return f"{markdown(head, lines)}\n\n{textwrap.fill(said, 120)}"


KINDS = ("sqlite", "postgresql")


def scale() -> str:
    """Make the table of the throughput of several processes and replicas."""
    kinds = {"processes": "`paramcast serve`, processes", "ray": "Ray, replicas"}
    lines = []
    for name, row in named_rows("scale.json").items():
        kind, count = name.rsplit("_", 1)
        lines.append((f"{kinds[kind]}: {count}", f"{row['value']:,.0f}/s", f"{row['ratio']:.2f}"))
    return markdown(["", "signed adaptations", "of one process"], lines)


def inversion() -> str:
    """Make the table of the information that a feature discloses and the gain, at each scale of noise."""
    found = named_rows("inversion.json")
    scales = [name.removeprefix("gain_") for name in found if name.startswith("gain_")]
    head = ["noise", "PSNR, dB", "SSIM", "category, % right", "answers, AUC, %", "gain, points"]
    told = ("psnr", "ssim", "category", "answers")
    guesses = [found[f"inversion_{name}_0"]["against"].split(": ")[1] for name in told]
    nearest = interval(found["nearest_psnr"]), interval(found["nearest_ssim"], 2)
    lines = [("without the feature", *guesses, ""), ("the nearest known frame", *nearest, "", "", "")]
    for scale in scales:
        cells = [interval(found[f"inversion_{name}_{scale}"], 2 if name == "ssim" else 1) for name in told]
        lines.append((scale, *cells, interval(found[f"gain_{scale}"])))
    return markdown(head, lines)


def interval(row: Row, digits: int = 1) -> str:
    """Format a mean and its interval."""
    value, low, high = (f"{row[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def main() -> int:
    """Write the pages, or check them; return the exit code."""
    check = only_checking("Fill the cloud's tables from experiments/results/.")
    pages = {
        "operations.md": {"capacity": capacity(), "scale": scale()},
        "threat_model.md": {"inversion": inversion()},
    }
    return fill({ROOT / "docs" / name: tables for name, tables in pages.items()}, check)


if __name__ == "__main__":
    sys.exit(main())
