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
    """One bar for a job, named by its stage."""
    return Progress(TextColumn("  {task.description:<20}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), console=console)


def show_heatmap(cells: Iterable[dict[str, Any]], chosen: tuple[int, str]) -> None:
    """How far steering moves the odds of a warm reply, by layer and dose, from the screening; the chosen cell's layer is framed.

    Where every layer has the same α these are the columns; where each has its own, from the weakest to the strongest, a cell says its α.
    A cell is dimmed where the 95th percentile of the divergence per token passes one nat: strong, and no longer the same model. So few
    layers that none was screened have no map.
    """
    screened = {(cell["layer"], cell["alpha"]): cell for cell in cells if cell["stage"] == "screen" and cell["layer"] is not None}
    if not screened:
        return
    rows = {layer: sorted((alpha for of, alpha in screened if of == layer), key=Decimal) for layer in sorted({of for of, _ in screened})}
    alphas, most = sorted({alpha for _, alpha in screened}, key=Decimal), max(map(len, rows.values()))
    is_shared = len(alphas) == most
    table = Table(title="shift of the contrast margin in nats, by layer and dose (dim: KL above 1 nat a token)", box=None, padding=(0, 1))
    table.add_column("layer", justify="right")
    for place in range(most):
        table.add_column(f"α {alphas[place]}" if is_shared else f"dose {place + 1}", justify="right")
    largest = max(float(cell["margin_shift"]) for cell in screened.values())
    for layer, own in rows.items():
        shown = alphas if is_shared else own
        shades = (_heat(screened[layer, alpha], largest, says_alpha=not is_shared) if alpha in own else Text("") for alpha in shown)
        table.add_row(f"[bold]›{layer}[/]" if layer == chosen[0] else str(layer), *shades)
    console.print(table)


def _heat(cell: dict[str, Any], largest: float, *, says_alpha: bool) -> Text:
    shift = float(cell["margin_shift"])
    said = f"{shift:.1f}\nα {cell['alpha']}" if says_alpha else f"{shift:.1f}"
    share = min(max(shift / largest, 0), 1) if largest > 0 else 0
    style = f"rgb({int(70 + 180 * share)},{int(100 + 60 * share)},{int(200 - 140 * share)})"
    return Text(said, style=f"{style} dim" if float(cell["kl_p95"]) > 1 else style)


def show_candidates(cells: Iterable[dict[str, Any]], chosen: tuple[int, str]) -> None:
    """What the finalists wrote on the whole select split; the chosen cell is framed."""
    table = Table(title="replies on the select split", box=None, padding=(0, 2))
    for column in ("layer", "α", "behaviour", "facts", "refusals", "perplexity ratio"):
        table.add_column(column, justify="right")
    finals = [cell for cell in cells if cell["stage"] == "final"]
    for cell in sorted(finals, key=lambda cell: (-1 if cell["layer"] is None else cell["layer"], Decimal(cell["alpha"]))):
        numbers = [_short(cell[name]) for name in ("behaviour", "facts", "refusals", "perplexity_ratio")]
        row = ["none" if cell["layer"] is None else str(cell["layer"]), cell["alpha"], *numbers]
        table.add_row(*row, style="bold green" if (cell["layer"], cell["alpha"]) == chosen else None)
    console.print(table)


def show_gates(gates: Sequence[dict[str, str]]) -> None:
    table = Table(title="gates on the test split", box=None, padding=(0, 2))
    for column in ("metric", "rule", "value", "verdict"):
        table.add_column(column)
    for gate in gates:
        colour = {"pass": "green", "undecidable": "yellow"}.get(gate["verdict"], "red")
        table.add_row(gate["metric"], f"{gate['kind']} {gate['threshold']}", _short(gate["value"]), f"[{colour}]{gate['verdict']}")
    console.print(table)


def show_controls(rows: Iterable[tuple[str, str]]) -> None:
    """Mean slopes of the contrast margin: the candidate's, and what should do nothing or the opposite."""
    table = Table(title="slope of the contrast margin, nats per unit of α, at the same norm", box=None, padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value)
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
