"""`paramcast data import table`: CSV, TSV and Parquet as people save them."""

# ruff: noqa: E501
from __future__ import annotations

from pathlib import Path

import pyarrow
import pytest
from importing import imported, put, run
from pyarrow import parquet

TABLE = "Video,sentence,begin,stop,who asked\nv0.mp4,it grows,1,3,x\nv0.mp4,they grow,1,3,y\nv0.mp4,it ends,3.5,,z\nno.mp4,x,,,\n"


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table(root: Path, video: bytes, delimiter: str) -> None:
    put(root, {"v0.mp4": video, "t.csv": TABLE.replace(",", delimiter)})
    given = ("--column", "start=begin", "--column", "end=stop")
    clips, said = imported("table", root, *given, source=root / "t.csv")
    assert clips["v0_1"].captions == ("it grows", "they grow")
    assert (clips["v0_3.5"].start, clips["v0_3.5"].end) == (3.5, None)
    assert "values of the column 'who asked', which is not used" in said


def test_a_table_of_questions_with_options(root: Path, video: bytes) -> None:
    rows = "path,question,answer,a,b,c\nv0,why?,1,x,y,z\nv0,who?,z,x,y,z\n"
    put(root, {"v0.mp4": video, "t.csv": rows})
    clips, _ = imported("table", root, "--column", "options=a,b,c", source=root / "t.csv")
    assert [(q.answer, q.options) for q in clips["v0"].qa] == [("y", ("x", "y", "z")), ("z", ("x", "y", "z"))]


def test_rows_about_other_parts_or_other_videos_are_other_clips(root: Path, video: bytes) -> None:
    rows = (
        "video,start,end,caption\n"
        "a/v.mp4,1,3,one\nb/v.mp4,1,3,two\na/v.mp4,1,5,three\na/v.mp4,1,3,four\n"
        "b/v.mp4,,,six\na/v.mp4,,,seven\n"
    )
    put(root, {"a/v.mp4": video, "b/v.mp4": video, "t.csv": rows})
    clips, _ = imported("table", root, source=root / "t.csv")
    found = {(clip.paths[0].parent.name, clip.start, clip.end): clip.captions for clip in clips.values()}
    assert found == {
        ("a", 1.0, 3.0): ("one", "four"),
        ("b", 1.0, 3.0): ("two",),
        ("a", 1.0, 5.0): ("three",),
        ("b", None, None): ("six",),
        ("a", None, None): ("seven",),
    }
    assert "v_1" in clips


def test_an_id_belongs_to_one_part_of_one_video(root: Path, video: bytes) -> None:
    rows = "id,video,start,end,caption\nx,a.mp4,1,3,one\nx,b.mp4,1,3,two\nx,a.mp4,1,3,three\n"
    put(root, {"a.mp4": video, "b.mp4": video, "t.csv": rows})
    clips, said = imported("table", root, source=root / "t.csv")
    assert clips["x"].captions == ("one", "three")
    assert "rows whose id belongs to another video" in said


def test_a_name_that_fits_two_videos_takes_neither(root: Path, video: bytes) -> None:
    rows = "video,caption\nv.mp4,one\nb/v.mp4,two\nelsewhere/c/w.mp4,three\n"
    put(root, {"a/v.mp4": video, "b/v.mp4": video, "w.mp4": video, "t.csv": rows})
    clips, said = imported("table", root, source=root / "t.csv")
    assert sorted(clip.captions for clip in clips.values()) == [("three",), ("two",)]
    assert "could be any of several: a/v.mp4, b/v.mp4" in said


def test_parquet(root: Path, video: bytes) -> None:
    put(root, {"v0.mp4": video})
    rows = {"video": ["v0.mp4"], "captions": [["one", "two"]], "split": ["test"], "start": [2]}
    parquet.write_table(pyarrow.table(rows), root / "t.parquet")
    clips, _ = imported("table", root, source=root / "t.parquet")
    assert (clips["v0_2"].captions, clips["v0_2"].split) == (("one", "two"), "test")


def test_tables_as_they_are_saved_elsewhere(root: Path, video: bytes) -> None:
    put(root, {"v.mp4": video})
    rows = "file_name,captions,start,end\nv.mp4,\"['caf\u00e9', 'b']\",00:00:01.5,0:02\n"
    put(root, {"t.csv": rows.encode("cp1252")})
    clips, _ = imported("table", root, source=root / "t.csv")
    (clip,) = clips.values()
    assert (clip.captions, clip.start, clip.end) == (("caf\u00e9", "b"), 1.5, 2.0)
    put(root, {"t.csv": "video,start\nv.mp4,soon\n"})
    done = run("table", root / "t.csv", "--out", root / "other")
    assert "start 'soon' is no time" in str(done.exception)
