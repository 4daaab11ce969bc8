"""Importers that make collections from common formats: one function and one line here for each format."""

from collections.abc import Callable, Iterator

from paramcast.video.imports.job import Job, Record, write_records
from paramcast.video.imports.moments import didemo, lsmdc, youcook2
from paramcast.video.imports.questions import activitynet_qa, msrvtt_qa, msvd_qa, next_qa, tgif_qa
from paramcast.video.imports.streams import huggingface, webdataset
from paramcast.video.imports.subtitles import subtitles
from paramcast.video.imports.tables import folder, table

FORMATS: dict[str, Callable[[Job], Iterator[Record]]] = {
    "msrvtt-qa": msrvtt_qa,
    "msvd-qa": msvd_qa,
    "tgif-qa": tgif_qa,
    "next-qa": next_qa,
    "activitynet-qa": activitynet_qa,
    "didemo": didemo,
    "youcook2": youcook2,
    "lsmdc": lsmdc,
    "subtitles": subtitles,
    "folder": folder,
    "table": table,
    "webdataset": webdataset,
    "huggingface": huggingface,
}

__all__ = ["FORMATS", "Job", "write_records"]
