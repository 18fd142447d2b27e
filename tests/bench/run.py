"""Measure edge beside its peers: python tests/bench/run.py [--rounds 5] [--seconds 3] [--work small] ...

Each round runs every stack once, freshly started, in an order that moves on by one. Ratios are taken within a
round. Linux only; all traffic stays on 127.0.0.1.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median

import trustme
from cryptography.hazmat.primitives import serialization

# In place of this folder, so that its modules have one name, under pytest too.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.bench import clients, machine, report, serving, stacks, works  # noqa: E402 (the line above)

FILES = 8192


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0, 1 when a row is not valid, 2 when there is nothing to measure, 130 after Ctrl-C."""
    options = _parse(arguments)
    # So that being asked to end, too, ends what was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    clients.allow_files(FILES)
    work = works.all_works()[options.work]
    chosen = _choose(options.only, work)
    tool = "h2load" if work.http2 else "wrk"
    if not chosen or not stacks.find_program(tool):
        print(f"nothing to measure: no stack is left, or {tool} is not installed", file=sys.stderr)
        return 2
    try:
        return _profile(chosen[0], work, options.seconds) if options.profile else _compare(chosen, work, options)
    except KeyboardInterrupt:
        print("\nstopped; every process has ended", file=sys.stderr)
        return 130


def _compare(chosen: list[stacks.Stack], work: works.Work, options: argparse.Namespace) -> int:
    for name, value in machine.describe_machine().items():
        print(f"{name}: {value}")
    turns, others = _measure_all(chosen, work, options)
    _print_report(turns, chosen, work, options)
    print(f"\nother processes took {median(others):.0%} of the processors (median; at most {max(others):.0%})")
    if options.json:
        _write_json(options, turns, others)
    return 1 if any(turn.faults for turn in turns) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=_count, default=5, help="how often each stack runs (default: 5)")
    parser.add_argument("--seconds", type=_count, default=3, help="how long each load lasts (default: 3)")
    parser.add_argument("--only", type=_names, default=[], help="names with commas between (default: all)")
    parser.add_argument("--work", choices=list(works.all_works()), default="small", help="(default: small)")
    parser.add_argument("--no-log", action="store_true", help="no stack writes an access log (default: each does)")
    parser.add_argument("--profile", action="store_true", help="print where Python spends its time, of the first stack")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every turn there, too")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 to 1000 is allowed")
    return int(text)


def _names(text: str) -> list[str]:
    names, known = text.split(","), stacks.all_stacks()
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: {', '.join(known)} are allowed")
    return names


def _choose(only: list[str], work: works.Work) -> list[stacks.Stack]:
    chosen = []
    for stack in stacks.all_stacks().values():
        if only and stack.name not in only:
            continue
        if work.http2 and not stack.http2:
            print(f"left out: {stack.title}: speaks no HTTP/2")
        elif work.proxy != stack.proxy and (work.proxy or stack.is_for_proxies):
            continue
        elif work.static and not stack.static:
            print(f"left out: {stack.title}: serves no files")
        elif missing := stack.missing():
            print(f"left out: {stack.title}: {missing} is not installed")
        else:
            chosen.append(stack)
    return chosen


def _profile(stack: stacks.Stack, work: works.Work, seconds: int) -> int:
    with _shared_folder() as shared, _site(shared, log=True) as site:
        try:
            with serving.run_stack(stack, site, profile=True) as running:
                work.measure(running, seconds)
        except serving.BenchError as error:
            print(f"{stack.title}: {error}", file=sys.stderr)
            return 1
        for profile in sorted(site.folder.glob("profile.*[0-9]")):
            print(profile.read_text())
    return 0


@contextmanager
def _shared_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # nginx's worker gives up root and still has to reach its socket
        _write_certificate(folder)
        yield folder


def _measure_all(
    chosen: list[stacks.Stack], work: works.Work, options: argparse.Namespace
) -> tuple[list[report.Turn], list[float]]:
    turns, others = [], []
    with _shared_folder() as folder:
        for number in range(options.rounds):
            first = number % len(chosen)
            for stack in chosen[first:] + chosen[:first]:
                before = machine.read_clock()
                with _site(folder, log=not options.no_log) as site:
                    turns.append(report.Turn(stack.name, number, *_measure(stack, work, site, options.seconds)))
                others.append(machine.find_others(before, machine.read_clock()))
                _print_turn(turns[-1], work)
    return turns, others


def _measure(stack: stacks.Stack, work: works.Work, site: stacks.Site, seconds: int) -> works.Figures:
    try:
        with serving.run_stack(stack, site) as running:
            values, faults = work.measure(running, seconds)
            return values, (*faults, *running.failures())
    except (serving.BenchError, OSError, ValueError, subprocess.SubprocessError) as error:
        return {}, (f"{type(error).__name__}: {error}",)


@contextmanager
def _site(shared: Path, *, log: bool) -> Iterator[stacks.Site]:
    with tempfile.TemporaryDirectory(dir=shared) as name:
        folder = Path(name)
        folder.chmod(0o711)
        works.write_files(folder / "files")
        port = serving.find_free_port()
        yield stacks.Site(folder, port, shared / "cert.pem", shared / "key.pem", log)


def _write_certificate(folder: Path) -> None:
    """Write ca.pem, and an ECDSA P-256 certificate for localhost as cert.pem and key.pem (PKCS 8, granian wants it)."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    leaf = authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    (folder / "key.pem").touch(mode=0o600)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _print_turn(turn: report.Turn, work: works.Work) -> None:
    figures = (f"{c.title} {turn.values[c.key]:,.{c.digits}f}" for c in work.columns if c.key in turn.values)
    print(f"round {turn.round + 1}, {turn.stack}: {', '.join(figures)}", *turn.faults, sep="; ", flush=True)


def _print_report(
    turns: list[report.Turn], chosen: list[stacks.Stack], work: works.Work, options: argparse.Namespace
) -> None:
    titles = {stack.name: stack.title for stack in chosen}
    span = f" of {options.seconds} s" if work.timed else ""
    log = "no access log" if options.no_log else "access log on"
    print(f"\n{work.title}, {log}; median of {options.rounds} rounds{span}\n")
    print(report.format_medians(turns, titles, work.columns))
    for stack in chosen:
        for fault in report.list_faults(turns, stack.name):
            print(f"not valid: {stack.title}: {fault}")
    columns = [column for column in work.columns if column.key in work.ratios]
    if "edge" in titles and (table := report.format_ratios(turns, titles, columns)):
        print(f"\nratios within a round: median (least .. greatest)\n\n{table}")
    if "edge" in titles and not options.no_log:  # what is to be reached is with the log on
        print("", *report.format_goals(turns, titles, work.goals), sep="\n")


def _write_json(options: argparse.Namespace, turns: list[report.Turn], others: list[float]) -> None:
    shape = {"work": options.work, "rounds": options.rounds, "seconds": options.seconds, "log": not options.no_log}
    content = {
        **shape,
        "machine": machine.describe_machine(),
        "others": others,
        "turns": [asdict(turn) for turn in turns],
    }
    options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
