import asyncio
import traceback

import pytest

from train.stderr import LINE_BYTES, LINES, Cause, Tail, first_failure, reason

HEADER = "Traceback (most recent call last):"


def lines_of(*chunks: bytes) -> list[str]:
    tail = Tail()
    for chunk in chunks:
        tail.feed(chunk)
    return tail.lines()


def test_lines_are_put_together_from_chunks_and_blank_ones_left_out() -> None:
    assert lines_of(b"on", b"e\n\nt", b"wo \r", b"\nthree") == ["one", "two", "three"]


def test_a_line_that_is_written_over_counts_once() -> None:
    assert lines_of(b"\r1 %", b"\r2 %\r", b"3 %\nend\n") == ["3 %", "end"]


def test_only_the_last_lines_and_the_beginning_of_long_ones_are_kept() -> None:
    many = [f"{i}\n".encode() for i in range(LINES + 50)]
    assert lines_of(*many) == [str(i) for i in range(50, LINES + 50)]
    assert lines_of(b"KeyError", *[b"x" * 1000] * 9) == [f"KeyError{'x' * (LINE_BYTES - 8)}"]


def test_bytes_that_are_no_text_are_shown_as_numbers() -> None:
    assert lines_of(b"caf\xe9\n") == ["caf\\xe9"]


def test_without_a_traceback_the_last_line_is_the_reason() -> None:
    assert reason(["one", "two"]) == "two"
    assert reason([]) is None


def test_the_last_traceback_is_the_reason_whatever_comes_later() -> None:
    lines = [HEADER, "  File", "OSError: old", HEADER, "  File", "ValueError: new", "leaked"]
    assert reason(lines) == "ValueError: new"


def test_a_traceback_that_is_cut_off_is_no_reason() -> None:
    assert reason(["KeyError: 'x'", HEADER, "  File"]) == "  File"


def test_an_exception_that_says_it_all_on_its_next_line_is_given_with_it() -> None:
    lines = [HEADER, "  File", "RuntimeError: Error(s) in loading:", "\tsize mismatch", "more"]
    assert reason(lines) == "RuntimeError: Error(s) in loading: size mismatch"


async def fail_in_a_group() -> None:
    async def fail() -> None:
        raise KeyError("b")

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())


def trace(source: str) -> list[str]:
    try:
        exec(source)
    except Exception:
        return traceback.format_exc().splitlines()
    raise AssertionError("It raised nothing.")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("try: {}['a']\nfinally: raise ValueError('b')", "ValueError: b"),
        (
            "raise ExceptionGroup('two', [ValueError('a'), KeyError('b')])",
            "ExceptionGroup: two (2 sub-exceptions)",
        ),
        ("import asyncio; asyncio.run(fail_in_a_group())", "KeyError: 'b'"),
        ("raise AssertionError", "AssertionError"),
    ],
)
def test_pythons_own_tracebacks_are_understood(source: str, expected: str) -> None:
    assert reason(trace(source)) == expected


# torchrun's words as torch 2.11 has them, when the second of two processes fails first.
TOGETHER = """\
[rank1]: Traceback (most recent call last):
[rank1]:   File "/opt/ml/code/t.py", line 6, in <module>
[rank0]: Traceback (most recent call last):
[rank1]:     if r == int(sys.argv[1]): raise ValueError("no class 'x'")
[rank0]:   File "/opt/ml/code/t.py", line 7, in <module>
[rank1]:                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
[rank1]: ValueError: no class 'x'
[rank0]:     work.wait()
[rank0]: RuntimeError: [pair.cc:547] Connection closed by peer [127.0.0.1]:15051
W1122 22:18:11.236000 11150 torch/distributed/elastic/multiprocessing/api.py:1012] Sending process
E1122 22:18:11.272000 11150 torch/distributed/elastic/multiprocessing/api.py:986] failed
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
t.py FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-22_22:18:11
  host      : localhost
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 11155)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 11155
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_22:18:11
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : 3 (pid: 11156)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
""".splitlines()


def test_of_torchruns_processes_the_first_to_fail_gives_the_reason() -> None:
    assert first_failure(TOGETHER) == Cause(rank=1, code=3)
    assert reason(TOGETHER) == "ValueError: no class 'x'"


def test_a_process_that_does_not_name_its_rank_gives_the_reason_too() -> None:
    before = [HEADER, "  File", "KeyError: 'lr'"]
    assert reason([*before, *TOGETHER[9:]]) == "KeyError: 'lr'"
    assert reason(["No photos.", *TOGETHER[9:]]) == "No photos."
    assert reason(TOGETHER[9:]) is None


def test_without_torchrun_nobody_failed_first() -> None:
    assert first_failure(TOGETHER[:9]) is None
