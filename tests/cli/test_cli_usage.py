"""Wrong usage of any command: exit code 2 and one line that says what is wrong and where help is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Run

from paramcast.cli import COMMANDS, main

WRONG = [
    ("", "paramcast: Missing command (see paramcast --help)"),
    ("--bad", "paramcast: No such option"),
    ("trian", "paramcast: No such command 'trian'"),
    ("device fly", "paramcast device: No such command 'fly'"),
    *[(group, f"paramcast {group}: Missing command") for group in ("data", "device", "bench")],
    *[
        (f"{command} --bad", f"paramcast {command}: No such option")
        for command in (*COMMANDS, "data check", "device run", "bench device")
    ],
    ("train", "paramcast train: Missing option '--out'"),
    ("evaluate", "paramcast evaluate: Missing option '--model'"),
    ("export", "paramcast export: Missing option '--model'"),
    ("data check", "paramcast data check: Missing argument 'DIR'"),
    ("device run", "paramcast device run: Missing option '--device-id'"),
    ("train --data d --out m", "paramcast train: give --data and --task (qa, choice, retrieval), or"),
    ("train --out m", "paramcast train: give --data and --task (qa, choice, retrieval), or --module"),
    ("train --data d --out m --task painting", "paramcast train: Invalid value for '--task': 'painting'"),
    ("train --data d --out m --task qa --form magic", "paramcast train: Invalid value for '--form': 'magic'"),
    ("train --data d --out m --task qa --adapter x", "paramcast train: Invalid value for '--adapter': 'x'"),
    ("train --data d --out m --task qa --devices 0", "paramcast train: Invalid value for '--devices': 0"),
    ("train --data d --out m --task qa --seed two", "paramcast train: Invalid value for '--seed': 'two'"),
    ("train --data", "paramcast: Option '--data' requires an argument"),  # click forgets of which command
    ("evaluate --model m --data d extra", "paramcast evaluate: Got unexpected extra argument (extra)"),
    ("serve m --port 70000", "paramcast serve: Invalid value for '--port': 70000"),
    (f"export --model {__file__} --out o", "paramcast export: Invalid value for '--model'"),
    ("bench service --seed -1", "paramcast bench service: Invalid value for '--seed': -1"),
]


def called(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["paramcast", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[words or "nothing" for words, _ in WRONG])
def test_wrong_usage_is_one_line(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(words.split(), monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(said)
    command = said.split(":")[0]
    assert printed.err.endswith(f" (see {command} --help)\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data check {0}", "cannot read {0}/clips.jsonl"),
        ("train --data {0} --task qa --out {0}/m", "cannot read {0}/clips.jsonl"),
        ("evaluate --model {0} --data {0}", "paramcast train --out {0}"),
        ("export --model {0} --out {0}/b", "paramcast train --out {0}"),
        ("serve {0} --key {1}/key --port 0", "{0} is no artifact"),
        (
            "device run --bundle {0} --data {0} --device-id cam-1",
            "no exported folder: it has no manifest.json",
        ),
    ],
)
def test_a_folder_that_is_not_there_is_one_line(
    words: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = tmp_path / "nowhere", tmp_path
    assert called(words.format(*folders).split(), monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("paramcast: ")
    assert said.format(*folders) in printed.err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("words", ["--help", "train -h", "--version"])
def test_what_is_asked_for_is_printed(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(words.split(), monkeypatch) == 0
    printed = capsys.readouterr()
    assert printed.out
    assert printed.err == ""


def test_as_a_module_it_has_the_same_name(run: Run) -> None:
    done = run("train", "--bad")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("paramcast train: No such option")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal on POSIX only")
def test_an_interrupted_command_has_failed(tmp_path: Path) -> None:
    clips = tmp_path / "clips.jsonl"
    os.mkfifo(clips)  # the command waits for its first line until it is interrupted
    command = [sys.executable, "-m", "paramcast", "data", "check", str(tmp_path)]
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
        ) as process,
        clips.open("w"),  # opens once the command has opened the other end
    ):
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (1, "")
    assert said.strip() == "paramcast: interrupted"


def _heed_interrupts() -> None:
    """What a shell runs in the background ignores them, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
