"""The parts of the benchmark that only calculate: wrk's output, /proc, medians, ratios, tables."""

import os

import pytest

from tests.bench import procfs, report
from tests.bench.clients import parse_wrk
from tests.bench.report import Column, Goal, Ratio, Turn

TITLES = {"edge": "edge", "nginx": "nginx + uvicorn"}
CPU = Column("cpu", "CPU us/request, all", 1)

STAT = "{pid} ({name}) S {parent} {pid} {session} 0 -1 4194304 1 2 3 4 {times} 20 0 1 0 {started} 99 88 77"


def wrk_output(**changes: float) -> str:
    figures: dict[str, float] = dict.fromkeys(
        ("connect_errors", "read_errors", "write_errors", "timeouts", "bad_status"), 0
    )
    figures |= {"requests": 1000, "seconds": 2.5, "bytes": 152000, "p50": 0.001, "p99": 0.004}
    figures |= changes
    body = ",".join(f'"{name}":{value}' for name, value in figures.items())
    return f"Running 2s test @ https://localhost:1/small\n  1 threads and 32 connections\nresult {{{body}}}\n"


def process(pid: int, parent: int, session: int) -> procfs.Process:
    return procfs.Process(pid, parent, session, started=0, cpu=0.0)


def turn(stack: str, number: int, cpu: float, *faults: str) -> Turn:
    return Turn(stack, number, {"cpu": cpu}, faults)


def paired() -> list[Turn]:
    edge, nginx = (20.0, 30.0, 60.0), (40.0, 100.0, 100.0)
    return [
        *(turn("edge", number, cpu) for number, cpu in enumerate(edge)),
        *(turn("nginx", number, cpu) for number, cpu in enumerate(nginx)),
    ]


def test_result_line_of_wrk_is_read() -> None:
    load = parse_wrk(wrk_output())
    assert (load.requests, load.seconds, load.size) == (1000, 2.5, 152000)
    assert (load.p50, load.p99, load.faults) == (0.001, 0.004, ())


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"connect_errors": 3}, ("3 connect errors",)),
        ({"read_errors": 1, "timeouts": 2}, ("1 read errors", "2 timeouts")),
        ({"bad_status": 7}, ("7 bad status",)),
        ({"requests": 0}, ("no request was answered",)),
    ],
)
def test_every_error_that_wrk_counts_is_a_fault(changes: dict[str, float], faults: tuple[str, ...]) -> None:
    assert parse_wrk(wrk_output(**changes)).faults == faults


@pytest.mark.parametrize("text", ["", "unable to connect to localhost:1\n", wrk_output() * 2])
def test_output_without_exactly_one_result_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="result lines, 1 wanted"):
        parse_wrk(text)


@pytest.mark.parametrize("name", ["python", "nginx: worker", "a) S 1 (b", ")"])
def test_stat_is_read_whatever_the_name_of_the_command(name: str) -> None:
    text = STAT.format(pid=42, name=name, parent=7, session=5, times="100 20 3 7", started=1234)
    assert procfs.parse_stat(text, 100) == procfs.Process(42, 7, 5, 1234, 1.30)


def test_pss_is_read_in_bytes() -> None:
    text = "55aa-7fff ---p 0 00:00 0 [rollup]\nRss:  2048 kB\nPss:  1500 kB\nPss_Dirty:  100 kB\n"
    assert procfs.parse_pss(text) == 1500 * 1024


def test_pss_of_a_process_that_is_gone_is_nothing() -> None:
    assert procfs.parse_pss("") == 0


def test_busy_time_leaves_out_idle_and_waiting_and_counts_stolen_time() -> None:
    assert procfs.parse_busy("cpu  100 20 30 9999 8888 1 2 47 0 0\ncpu0 1 1 1\n", 100) == 2.0


def test_tree_has_descendants_and_orphans_of_the_session_only() -> None:
    processes = {
        p.pid: p
        for p in (
            process(10, 1, 10),
            process(11, 10, 10),
            process(12, 11, 12),
            process(13, 1, 10),
            process(14, 13, 14),
            process(20, 1, 20),
            process(21, 20, 20),
        )
    }
    assert [p.pid for p in procfs.select_tree(processes, [10, 99])] == [10, 11, 12, 13, 14]


@pytest.mark.skipif(not procfs.PROC.is_dir(), reason="needs /proc")
def test_own_process_is_found_with_its_command_and_memory() -> None:
    me = os.getpid()
    processes = procfs.read_processes()
    assert processes[me].cpu > 0
    assert "python" in procfs.read_command(me) or "pytest" in procfs.read_command(me)
    assert procfs.read_pss([me]) > 1024 * 1024
    assert procfs.read_busy() >= processes[me].cpu


def test_process_that_is_gone_has_no_command_and_no_memory() -> None:
    nobody = 2**31 - 1  # above any kernel's greatest process id
    assert procfs.read_command(nobody) == ""
    assert procfs.read_pss([nobody]) == 0


def test_median_leaves_out_rounds_without_the_figure() -> None:
    turns = [*paired(), Turn("edge", 3, {})]
    assert report.find_median(turns, "edge", "cpu") == 30.0
    assert report.find_median(turns, "edge", "p99") is None


def test_ratio_pairs_within_a_round_before_the_median() -> None:
    # The medians' ratio would be 0.30; the pairs are 0.50, 0.30 and 0.60.
    assert report.find_ratio(paired(), "edge", "nginx", "cpu") == Ratio(0.5, 0.3, 0.6)


@pytest.mark.parametrize(
    "turns",
    [
        [turn("edge", 0, 20.0)],
        [turn("edge", 0, 20.0), turn("nginx", 1, 40.0)],
        [turn("edge", 0, 20.0), turn("nginx", 0, 0.0)],
    ],
)
def test_ratio_needs_a_round_with_both(turns: list[Turn]) -> None:
    assert report.find_ratio(turns, "edge", "nginx", "cpu") is None
    assert report.format_ratio(None) == "-"


def test_medians_table_shows_figures_and_gaps() -> None:
    columns = (CPU, Column("rate", "requests/s"))
    turns = [Turn("edge", 0, {"cpu": 21.26, "rate": 23456.7}), turn("nginx", 0, 40.0)]
    assert report.format_medians(turns, TITLES, columns).splitlines()[2:] == [
        "| edge            |                21.3 |     23,457 |",
        "| nginx + uvicorn |                40.0 |          - |",
    ]


def test_one_fault_makes_the_row_and_its_ratio_worthless() -> None:
    turns = [*paired(), turn("nginx", 3, 1.0, "3 read errors")]
    table = report.format_medians(turns, TITLES, [CPU])
    assert table.splitlines()[3] == "| nginx + uvicorn |           not valid |"
    assert report.list_faults(turns, "nginx") == ["round 4: 3 read errors"]
    assert report.format_ratios(turns, TITLES, [CPU]) == ""
    assert report.format_goals(turns, TITLES, [Goal("cpu", "nginx", 0.7)])[0].endswith("not measured")


def test_ratios_table_compares_the_first_stack_with_each_other_one() -> None:
    assert report.format_ratios(paired(), TITLES, [CPU]).splitlines() == [
        "| edge divided by |      CPU us/request |",
        "| --------------- | ------------------: |",
        "| nginx + uvicorn | 0.50 (0.30 .. 0.60) |",
    ]


@pytest.mark.parametrize(
    ("goal", "line"),
    [
        (Goal("cpu", "nginx", 0.5), "cpu against nginx + uvicorn: at most 0.5: 0.5, reached"),
        (Goal("cpu", "nginx", 0.4), "cpu against nginx + uvicorn: at most 0.4: 0.5, MISSED"),
        (Goal("cpu", "granian", 1.0), "cpu against granian: at most 1: not measured"),
        (Goal("cpu", "", 20.0), "cpu: at most 20: 30, MISSED"),
        (Goal("p99", "", 20.0), "p99: at most 20: not measured"),
    ],
)
def test_goal_says_what_was_to_reach_and_what_is(goal: Goal, line: str) -> None:
    assert report.format_goals(paired(), TITLES, [goal]) == [line]
