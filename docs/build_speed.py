"""Fill the tables of the service, the device and the streams in `results.md` from `experiments/results/`.

python docs/build_speed.py            # rewrites the tables between the markers
python docs/build_speed.py --check    # changes nothing; exit code 1 if the page is not up to date
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping

from marked_tables import RESULTS, ROOT, Row, fill, markdown, named_rows, only_checking, rows_of

FORMS = ("codes", "lowrank", "residual", "full")
DEVICES = {"device": "demo world", "device_msrvtt": "MSR-VTT"}
STREAMS = {"stream": "demo world", "stream_msrvtt": "MSR-VTT"}
POLICIES = {
    "stream_never": "never",
    "stream_always": "always",
    "stream_every-20": "every 20th clip",
    "stream_every-10": "every 10th clip",
    "stream_default": "on drift, its default",
    "stream_on-drift": "on drift, chosen",
}


def service() -> str:
    """Make the tables of the service under load, and of one adaptation at a time in each form."""
    found = named_rows("service.json")
    loads = [
        (
            f"adaptations a second over HTTP, 8 support clips, `{FORMS[0]}`",
            *(f"{found[name]['value']:,.0f}" for name in ("throughput", "throughput_signed")),
        ),
        (
            "of what the bare generator does, 16 a call",
            *(f"{found[name]['ratio']:.2f}" for name in ("throughput", "throughput_signed")),
        ),
        *(
            (f"p{share} at half of that load, open loop", *_ms(found, f"latency_p{share}", ("", "_signed")))
            for share in (50, 99)
        ),
        *(
            (f"p{share} at 500 a second", "", *_ms(found, f"latency_p{share}", ("_signed_promised",)))
            for share in (50, 99)
        ),
    ]
    local = found["in_process"]
    said = (
        f"The load tool takes {found['load_generator']['value']:.0f} % of a core. Decoding, generating and "
        f"sealing alone do {local['value']:,.0f} a second in one process, {local['ratio']:.2f} of the bare "
        "generator: half of it, our goal, is out of reach for anything that checks and signs."
    )
    forms = [
        [
            form,
            *(f"{found[f'adapt_{form}_bytes_{way}']['value']:,.0f}" for way in ("up", "down")),
            *_ms(found, f"adapt_{form}_p", ("50", "99")),
        ]
        for form in FORMS
    ]
    return "\n\n".join(
        [
            markdown(["", "unsigned", "signed"], loads),
            _filled(said),
            markdown(["form, int4", "bytes up", "bytes down", "p50", "p99 (one at a time)"], forms),
        ]
    )


def device() -> str:
    """Make the table of a device's answers and swaps in each form, and the paragraph on a browser."""
    files = {collection: named_rows(f"{name}.json") for name, collection in DEVICES.items()}
    lines = [
        [
            f"{collection}, {form}",
            *(
                f"{found[f'{part}_{state}_{form}']['ratio']:.2f}"
                for part in ("answer", "head")
                for state in ("adapted", "baked")
            ),
            f"{found[f'swap_{form}']['value']:.1f} ms",
        ]
        for collection, found in files.items()
        for form in FORMS
    ]
    found, tab = files["demo world"], named_rows("browser.json")
    values, in_tab = ({name: row["value"] for name, row in rows.items()} for rows in (found, tab))
    step = found["fine_tuning_step_head"]
    said = (
        f"Base: {values['answer_base']:.0f} ms an answer, {values['cold_start'] / 1000:.2f} s from start to "
        f"the first, {values['peak_mb']:.0f} MB at most; adapted {values['peak_mb_adapted']:.0f} MB. The "
        f"int8 image trunk takes {found['trunk_int8']['ratio']:.2f} of the fp32 one's time; right answers "
        f"with one and with the other: {' and '.join(_accuracies(files))}. One step of "
        f"fine-tuning the head takes {step['ratio']:.0f} times as long as the swap of a kept package, and "
        f"{values['fine_tuning_step_head_macs'] / 1e6:.0f} million multiply-adds."
    )
    browser = (
        "In a browser (`python -m experiments browser`, Chromium, WebAssembly, "
        f"[file](../experiments/results/browser.json)): {in_tab['answer_base']:.0f} ms an answer, "
        f"{tab['answer_base']['ratio']:.1f} times Python's beside it, as the trunk takes "
        f"{in_tab['trunk']:.0f} ms; adapted {tab['answer_adapted_codes']['ratio']:.2f} of base; "
        f"{in_tab['start'] / 1000:.1f} s to start; a swap of `codes` {in_tab['swap_codes']:.1f} ms; an "
        f"adaptation {in_tab['adapt_codes']:.0f} ms in all."
    )
    head = ["form", "answer", "baked", "without the trunks", "baked", "swap"]
    return "\n\n".join([markdown(head, lines), _filled(said), _filled(browser)])


def _accuracies(files: Mapping[str, Mapping[str, Row]]) -> Iterator[str]:
    for collection, found in files.items():
        int8, fp32 = (found[f"trunk_{kind}_accuracy"]["value"] for kind in ("int8", "fp32"))
        yield f"{int8:.1f} and {fp32:.1f} % ({collection})"


def streams() -> str:
    """Make the table of policies under every shift: accuracy, shares of the gain and of clips asked after."""
    lines = []
    for name, collection in STREAMS.items():
        rows = rows_of(RESULTS / f"{name}.json")
        alone = len({row["shift"] for row in rows}) == 2  # one shift, and all shifts together
        for row in rows:
            if alone and row["shift"] == "all":
                continue
            share = row["share_of_gain"]
            cells = (100 * share[edge] for edge in ("mean", "low", "high")) if share else ()
            lines.append(
                [
                    f"{collection}, {row['shift'].replace('all', 'both')}",
                    POLICIES[row["name"]],
                    f"{row['accuracy']['mean']:.1f} %",
                    "{:.0f} % [{:.0f}, {:.0f}]".format(*cells) if share else "nothing to gain",
                    f"{100 * row['share_of_requests']['mean']:.1f} %",
                ]
            )
    return markdown(["streams", "policy", "accuracy", "of the gain", "of the clips asked after"], lines)


def _ms(found: Mapping[str, Row], name: str, ends: tuple[str, ...]) -> list[str]:
    return [f"{found[name + end]['value']:.1f} ms" for end in ends]


def _filled(text: str) -> str:
    return textwrap.fill(text, 120)


def main() -> int:
    """Write the page, or check it; return the exit code."""
    check = only_checking("Fill the tables of speed from experiments/results/.")
    tables = {"service": service(), "device": device(), "streams": streams()}
    return fill({ROOT / "docs/results.md": tables}, check)


if __name__ == "__main__":
    sys.exit(main())
