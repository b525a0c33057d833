"""Draw a benchmark: the client's and the server's values side by side. Writes one file."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qwenctl.client.bench.measure import Measured
from qwenctl.errors import ClientError
from qwenctl.plan.speed import Speed

SERVER, CLIENT = "#2a6f97", "#e07a3f"
PANELS = (
    ("writing, tokens/s", "generation"),
    ("reading, tokens/s", "prompt"),
)


def draw(path: Path, title: str, measured: Sequence[Measured], speed: Speed | None) -> None:
    """Draw into ``path``; its suffix chooses the format. Bars are medians, lines reach from p5 to p95.

    Raises:
        ClientError: the file cannot be written, or the suffix is unknown.
    """
    mpl.rcParams["svg.hashsalt"] = "qwenctl"  # the same numbers give the same file
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, 3)
    names = [one.name for one in measured]
    for axis, (label, metric) in zip(axes[:2], PANELS, strict=True):
        _bars(axis, measured, f"{metric}_server", -0.2, ("by the server", SERVER))
        _bars(axis, measured, f"{metric}_client", 0.2, ("by the client", CLIENT))
        axis.set_title(label)
    _bars(axes[2], measured, "first_token_s", 0, ("by the client", CLIENT))
    axes[2].set_title("first token, s")
    if speed is not None:
        _bounds(axes[0], speed)
    for axis in axes:
        axis.set_xticks(range(len(names)), names)
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    try:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    except (OSError, ValueError) as error:
        raise ClientError(
            f"cannot draw {path}: {str(error).lower()}", hint="end the name in .svg or .png"
        ) from error


def _bars(axis: Axes, measured: Sequence[Measured], metric: str, shift: float, look: tuple[str, str]) -> None:
    label, colour = look
    for place, one in enumerate(measured):
        spread = one.spreads().get(metric)
        if spread is None:
            continue
        error_bars = [[spread.median - spread.p5], [spread.p95 - spread.median]]
        axis.bar(
            place + shift,
            spread.median,
            0.38,
            yerr=error_bars,
            color=colour,
            ecolor="#333333",
            capsize=3,
            label=label if place == 0 else None,
        )


def _bounds(axis: Axes, speed: Speed) -> None:
    if speed.low is not None:
        axis.axhspan(speed.low, speed.high or speed.low, color="#9aa5b1", alpha=0.3, label="claimed")
    if speed.bound is not None:
        axis.axhline(speed.bound, color="#b23a48", linestyle="--", label="memory bandwidth allows")
