"""Medians, ratios in pairs, and the tables that are printed: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Turn:
    """One stack in one round: its figures by name, and what makes them worthless."""

    stack: str
    round: int
    values: Mapping[str, float]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A figure: its name in `Turn.values`, its title with the unit, its decimals."""

    key: str
    title: str
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Goal:
    """The most that a figure may be: as a ratio to `peer`'s, or by itself when `peer` is empty."""

    key: str
    peer: str
    most: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the ratios of one pair a round, the least and the greatest of them."""

    middle: float
    least: float
    greatest: float


def list_faults(turns: Iterable[Turn], stack: str) -> list[str]:
    """Return every fault of a stack with its round; one is enough to make its row worthless."""
    return [f"round {t.round + 1}: {fault}" for t in turns if t.stack == stack for fault in t.faults]


def find_median(turns: Iterable[Turn], stack: str, key: str) -> float | None:
    """Return the median over the rounds of a stack's figure, None when it has none."""
    values = [turn.values[key] for turn in turns if turn.stack == stack and key in turn.values]
    return median(values) if values else None


def find_ratio(turns: Sequence[Turn], stack: str, peer: str, key: str) -> Ratio | None:
    """Divide `stack` by `peer` within each round that has both; None when no round has."""
    mine, theirs = ({t.round: t.values[key] for t in turns if t.stack == s and key in t.values} for s in (stack, peer))
    pairs = [mine[number] / theirs[number] for number in mine if theirs.get(number)]
    return Ratio(median(pairs), min(pairs), max(pairs)) if pairs else None


def format_medians(turns: Sequence[Turn], titles: Mapping[str, str], columns: Sequence[Column]) -> str:
    """Return the table of medians, a row a stack; a stack with a fault has no figures."""
    rows = []
    for stack, title in titles.items():
        if list_faults(turns, stack):
            rows.append([title, *["not valid"] * len(columns)])
        else:
            rows.append([title, *(_number(find_median(turns, stack, c.key), c.digits) for c in columns)])
    return format_table(["stack", *(column.title for column in columns)], rows)


def format_ratios(turns: Sequence[Turn], titles: Mapping[str, str], columns: Sequence[Column]) -> str:
    """Return the table of the first stack's ratios to each other one, pair by pair within each round."""
    first, *peers = titles
    rows = []
    for peer in peers:
        if list_faults(turns, first) or list_faults(turns, peer):
            continue
        ratios = [find_ratio(turns, first, peer, column.key) for column in columns]
        rows.append([titles[peer], *(format_ratio(ratio) for ratio in ratios)])
    return (
        format_table([f"{titles[first]} divided by", *(c.title.split(",")[0] for c in columns)], rows) if rows else ""
    )


def format_goals(turns: Sequence[Turn], titles: Mapping[str, str], goals: Sequence[Goal]) -> list[str]:
    """Return a line for each goal of the first stack: what was to reach, what is, and whether that is enough."""
    first = next(iter(titles))
    lines = []
    for goal in goals:
        what = f"{goal.key} against {titles.get(goal.peer, goal.peer)}" if goal.peer else goal.key
        found = _find_goal(turns, first, goal)
        if found is None:
            lines.append(f"{what}: at most {goal.most:g}: not measured")
        else:
            lines.append(f"{what}: at most {goal.most:g}: {found:.3g}, {'reached' if found <= goal.most else 'MISSED'}")
    return lines


def format_ratio(ratio: Ratio | None) -> str:
    """Return `middle (least .. greatest)`."""
    return f"{ratio.middle:.2f} ({ratio.least:.2f} .. {ratio.greatest:.2f})" if ratio else "-"


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(heads, widths), _line(rule, widths), *(_line(row, widths) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join([first.strip().ljust(widths[0]), *others]) + " |"


def _find_goal(turns: Sequence[Turn], first: str, goal: Goal) -> float | None:
    if list_faults(turns, first) or (goal.peer and list_faults(turns, goal.peer)):
        return None
    if not goal.peer:
        return find_median(turns, first, goal.key)
    ratio = find_ratio(turns, first, goal.peer, goal.key)
    return ratio.middle if ratio else None


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
