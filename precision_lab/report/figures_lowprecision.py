"""Figures of the part on recipes below BF16."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from precision_lab.report.figures import RC, save
from precision_lab.report.numbers import number

MARKERS = "osD^vP*X"
RECIPE_COLOURS = {
    "bf16": "#58b894", "delayed": "#d96a62", "current": "#e0a04a", "block": "#4f83c4", "mxfp8": "#7b68b5",
    "nvfp4": "#444c56",
}  # fmt: skip


LABELS = {
    "gap": "held-out loss less FP32's (nats per byte)",
    "distance": "distance of the loss curve to FP32's (nats per byte)",
}


def _plain(value: float, _: object) -> str:
    return f"{value:g}"


def _value(found: Any) -> float:
    """A measure of a cell; infinite where a run diverged."""
    return math.inf if found in (None, "inf") else number(found)


def draw_lowprecision(data: Mapping[str, Any] | None) -> dict[str, bytes]:
    """File name → SVG, for what there is."""
    import matplotlib

    files: dict[str, bytes] = {}
    if not data:
        return files
    with matplotlib.rc_context(RC):
        for function in dict.fromkeys(m["function"] for m in data["maps"]):
            mine = [m for m in data["maps"] if m["function"] == function]
            files[f"regime-{function}.svg"] = save(_regime(mine, function))
        if data.get("probe") and data["probe"]["rank_correlation"]:
            files["prediction.svg"] = save(_prediction(data["probe"]))
    return files


def _regime(maps: list[Mapping[str, Any]], function: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 6.4), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, found in zip(axes.flat, maps, strict=False):
        shares = np.array([[number(v) for v in row] for row in found["shares"]])
        image = axis.imshow(shares, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="magma_r")
        axis.grid(False)
        x, y = found["scales"], found["alphas"]
        axis.set_xticks(range(0, len(x), 4), [f"2^{int(math.log2(v))}" for v in x[::4]])
        axis.set_yticks(range(0, len(y), 3), [f"{v:.2g}" for v in y[::3]])
        shifted = "softplus(aₙ)" if found["parameter"] == "alpha_n" else "αₚ"
        axis.set_ylabel(shifted)
        axis.set_title(found["description"], fontsize=9)
        axis.set_xlabel("scale of the pre-activations")
    figure.colorbar(image, ax=axes, shrink=0.7, label="share lost")
    figure.suptitle(f"{function}, normal pre-activations")
    return figure


def _prediction(probe: Mapping[str, Any]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    axes = figure.subplots(1, 2)
    ageings = list(dict.fromkeys(c["ageing"] for c in probe["cells"]))
    for axis, found in zip(axes, probe["rank_correlation"], strict=True):
        measure = found["measure"]
        finite = [v for c in probe["cells"] if math.isfinite(v := _value(c[measure]))]
        top = max(finite, default=1.0) * 1.5
        for cell in probe["cells"]:
            value = _value(cell[measure])
            axis.plot(
                number(cell["risk"]), value if math.isfinite(value) else top,
                MARKERS[ageings.index(cell["ageing"]) % len(MARKERS)],
                color=RECIPE_COLOURS.get(cell["recipe"], "#888888"), markersize=5.5, alpha=0.8,
            )  # fmt: skip
        if any(not math.isfinite(_value(c[measure])) for c in probe["cells"]):
            axis.axhline(top, color="#d96a62", linewidth=0.8, linestyle="--")
            axis.text(
                0.01, 1.1 * top, "diverged", transform=axis.get_yaxis_transform(), va="bottom", fontsize=8
            )
        axis.set_xscale("log")
        if measure == "gap":
            axis.set_yscale("symlog", linthresh=1e-3)
            axis.axhline(0, color="#8a94a0", linewidth=0.8)
            axis.set_ylim(bottom=min(-1e-3, 2 * min(finite, default=0.0)))
        else:
            axis.set_yscale("log")
        axis.set_ylim(top=3 * top)  # room for the word above the line
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(_plain)  # the usual one writes powers as formulas
            scale.set_minor_formatter(lambda value, at: "")
        axis.set_xlabel("risk, predicted before training")
        axis.set_ylabel(LABELS[measure])
        interval = f"{found['low']:.2f} to {found['high']:.2f}"
        axis.set_title(f"{found['cells']} cells, rank correlation {found['value']:.2f} ({interval})")
    recipes = [k for k in RECIPE_COLOURS if any(c["recipe"] == k for c in probe["cells"])]
    handles = [Line2D([], [], marker="o", linestyle="", color=RECIPE_COLOURS[k], label=k) for k in recipes]
    handles += [
        Line2D([], [], marker=MARKERS[i % len(MARKERS)], linestyle="", color="#8a94a0", label=a)
        for i, a in enumerate(ageings)
    ]
    axes[1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


__all__ = ["draw_lowprecision"]
