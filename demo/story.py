"""How the Harbor story looks in a terminal: chapters, progress, the heat map, replies side by side, the closing table."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)


def tell_chapter(title: str, text: str) -> None:
    console.print()
    console.print(Rule(f"[bold]{title}", align="left"))
    console.print(text)


def tell(text: str) -> None:
    console.print(f"  {text}")


def job_progress() -> Progress:
    """One bar for each stage of a job."""
    return Progress(TextColumn("  {task.description:<20}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), console=console)


def show_heatmap(cells: Iterable[dict[str, Any]], chosen: tuple[int, str]) -> None:
    """Behaviour by layer and α from the screening stage; a cell whose facts fell is dimmed, the chosen one is framed."""
    screened = [cell for cell in cells if cell["stage"] == "screen"]
    baseline = next(cell for cell in screened if cell["layer"] is None)
    steered = [cell for cell in screened if cell["layer"] is not None]
    alphas = sorted({cell["alpha"] for cell in steered}, key=Decimal)
    table = Table(
        title=f"behaviour by layer and α (baseline {_short(baseline['behaviour'])}; dim: facts were lost)", box=None, padding=(0, 1)
    )
    table.add_column("layer", justify="right")
    for alpha in alphas:
        table.add_column(f"α {alpha}", justify="right")
    for layer in sorted({cell["layer"] for cell in steered}):
        row = {cell["alpha"]: cell for cell in steered if cell["layer"] == layer}
        table.add_row(str(layer), *(_heat(row[alpha], baseline, (layer, alpha) == chosen) for alpha in alphas))
    console.print(table)


def _heat(cell: dict[str, Any], baseline: dict[str, Any], is_chosen: bool) -> Text:
    score = float(cell["behaviour"])
    share = min(max((score - 1) / 4, 0), 1)
    style = f"rgb({int(70 + 180 * share)},{int(100 + 60 * share)},{int(200 - 140 * share)})"
    if float(cell["facts"]) < float(baseline["facts"]) - 0.05:
        style += " dim"
    return Text(f"[{score:.2f}]" if is_chosen else f" {score:.2f} ", style=f"{style} bold" if is_chosen else style)


def show_gates(gates: Sequence[dict[str, str]]) -> None:
    table = Table(title="gates on the test split", box=None, padding=(0, 2))
    for column in ("metric", "rule", "value", "verdict"):
        table.add_column(column)
    for gate in gates:
        colour = "green" if gate["verdict"] == "pass" else "red"
        table.add_row(gate["metric"], f"{gate['kind']} {gate['threshold']}", _short(gate["value"]), f"[{colour}]{gate['verdict']}")
    console.print(table)


def show_replies(tickets: Sequence[str], before: Sequence[str], after: Sequence[str]) -> None:
    for ticket, cold, warm in zip(tickets, before, after, strict=True):
        body = Text.assemble(("ticket  ", "bold"), ticket, "\n", ("before  ", "cyan bold"), cold, "\n", ("after   ", "green bold"), warm)
        console.print(Panel(body, expand=False, width=min(console.width, 130)))


def show_summary(rows: Iterable[tuple[str, str]]) -> None:
    table = Table(title="Harbor Support", show_header=False, title_style="bold")
    for name, value in rows:
        table.add_row(name, value)
    console.print()
    console.print(table)


def _short(number: str) -> str:
    return f"{float(number):.3g}"
