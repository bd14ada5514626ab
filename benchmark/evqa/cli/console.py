"""What a command says on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evqa.models.api.budget import Prices
    from evqa.runs.runner import RunSummary
    from evqa.schema import TotalUsage


def print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_summary(summary: RunSummary, command: str) -> int:
    """Say what a run did and what comes next; the exit code."""
    if summary.usage.num_replies:
        print_line(format_cost(summary.usage, summary.prices))
    print_line(
        f"{summary.folder}: {summary.done} predicted, {summary.skipped} already there, {len(summary.failed)} failed"
    )
    if replies := reply_line(summary):
        print_line(replies)
    print_failures(summary.failed)
    if summary.failed:
        print_line("the same command tries the failed ones again")
    elif command:
        print_line(f"next: {command}")
    return 1 if summary.failed else 0


def reply_line(summary: RunSummary) -> str:
    """What the replies of a run were like, earlier calls included; empty where all were complete."""
    numbers = {
        "truncated (--max-tokens)": summary.truncated,
        "refused": summary.refused,
        "unparsed": summary.unparsed,
    }
    found = [f"{number} {what}" for what, number in numbers.items() if number]
    return f"responses: {', '.join(found)}" if found else ""


def format_cost(spent: TotalUsage, prices: Prices | None) -> str:
    """What a run took, earlier calls included; `prices`: None where nothing is paid for."""
    line = f"{spent.num_replies} replies, {spent.input_tokens} tokens in, {spent.output_tokens} out"
    if prices is None:
        return line
    if spent.num_replies == spent.num_unpriced:
        return f"{line}, cost not known: give --price-in and --price-out in US dollars a million tokens"
    source = f" (prices: {prices.source})" if prices.source else ""
    unpriced = f", {spent.num_unpriced} replies of unknown cost" if spent.num_unpriced else ""
    return f"{line}, ${spent.cost:.4f}{unpriced}{source}"


def print_failures(failed: Mapping[str, str]) -> None:
    for sample, reason in list(failed.items())[:5]:
        print_line(f"  {sample}: {reason}")
