"""Results → one HTML page that opens offline."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from precision_lab.report import published, tables
from precision_lab.report.findings import TOPICS, Finding, derive
from precision_lab.report.lowprecision import sections
from precision_lab.report.parts import Figure, Table
from precision_lab.report.rows import anchor
from precision_lab.report.series import page_data
from precision_lab.results import Results


def html(results: Results) -> str:
    """The page: findings first, every claim linked to the row it was read from."""
    import plotly.offline

    # A "<" in a name could end the script; JSON may spell it by its number.
    data = json.dumps(page_data(results), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    template = environment().get_template("page.html")
    text: str = template.render(
        **content(results), data=data, plotly_js=plotly.offline.get_plotlyjs(),
        pictures=_pictures(results.lowprecision),
    )  # fmt: skip
    return text


def lowprecision_html(data: Mapping[str, Any], title: str) -> str:
    """A page of the sections on low precision alone."""
    template = environment().get_template("lowprecision.html")
    text: str = template.render(title=title, sections=sections(data), pictures=_pictures(data))
    return text


def _pictures(data: Mapping[str, Any] | None) -> dict[str, str]:
    """Figures as addresses that hold them, so that the page stays one file."""
    from precision_lab.report.figures_lowprecision import draw_lowprecision

    return {
        name: "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
        for name, svg in draw_lowprecision(data).items()
    }


def environment(finalize: Callable[[Any], Any] | None = None) -> Any:
    """Templates of this package, escaping in HTML only; an unknown name is an error, not an empty string.

    Args:
        finalize: what every expression's value goes through before it is put in.
    """
    import jinja2

    loader = jinja2.PackageLoader("precision_lab.report", "templates")
    found = jinja2.Environment(
        loader=loader,
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"anchor": anchor, "figure": tables.figure, "ratio": _ratio}
    found.tests |= {
        "a_table": lambda part: isinstance(part, Table),
        "a_figure": lambda part: isinstance(part, Figure),
    }
    return found


def _ratio(value: float, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def content(results: Results) -> dict[str, Any]:
    """What the HTML and the Markdown template both receive."""
    findings = derive(results)
    sound = [m for m in results.measurements if m.failure is None]
    tiers = tables.tiers(results)
    return {
        "environment": results.environment,
        "settings": results.settings,
        "seconds": results.seconds,
        "topics": group(findings, results.profile.lead),
        "n_results": sum(m.n_inputs for m in sound),
        "n_cases": len(results.measurements),
        "n_failed": len(results.measurements) - len(sound),
        "undecided": sum(m.undecided for m in sound),
        "functions": list(dict.fromkeys(m.function for m in results.measurements)),
        "formats": list(dict.fromkeys(m.fmt for m in results.measurements)),
        "implementations": sorted({(m.function, m.implementation) for m in results.measurements}),
        "tiers": tiers,
        "tier_total": sum(tiers.values()),
        "parameter_sets": tables.parameter_sets(results),
        "region_tables": tables.region_tables(results),
        "region_titles": tables.REGION_TITLES,
        "witnesses": tables.witnesses(results),
        "reductions": tables.reductions(results),
        "timings": tables.timings(results),
        "shares": any(t.bandwidth_share is not None for t in results.timings),
        "blocks": results.blocks,
        "block_words": _block_words(results),
        "published": {name: ratio for name, (_, ratio) in published.BLOCK_TIMES.items()},
        "conversions": results.conversions,
        "lead": results.profile.lead,
        "sections": sections(results.lowprecision),
    }


def _block_words(results: Results) -> str:
    """What the table of MLP blocks shows."""
    if not results.blocks:
        return ""
    b = results.blocks[0]
    paper = ", ".join(f"{name} {ms}" for name, (ms, _) in published.BLOCK_TIMES.items())
    silu = next((b for b in results.blocks if b.function == "silu"), None)
    ratios = (
        "Medians, and the ratios of time and of peak memory to SiLU's block in the same rounds."
        if silu is not None and silu.failure is None
        else "Medians; SiLU's block, which ratios refer to, gave no figures, so that there are none."
    )
    return (
        f"One forward and backward pass of a Llama-style MLP block in {b.fmt}: {b.tokens} tokens, model "
        f"width {b.model_width}, hidden width as shown (a gated block has a third matrix and two thirds of "
        f"the width). {ratios} The paper's Table 1 (arXiv 2411.13010), of another machine, by torch.compile, "
        f"xIELU and xIPReLU unoptimised, in ms per iteration: {paper}. Its ratios to SiLU stand in the last "
        "column; each of its blocks took 87 % of the GPU's memory."
    )


def group(
    findings: tuple[Finding, ...], lead: Sequence[str]
) -> list[tuple[str, str, list[Finding], list[Finding]]]:
    """(topic, question, findings, findings about other functions) in the order of `TOPICS`.

    Those about the profile's leading functions are read first; the rest is folded behind them.
    """
    groups = []
    for topic, question in TOPICS.items():
        found = [f for f in findings if f.topic == topic]
        first = [f for f in found if _leads(f, lead)] or found
        if found:
            groups.append((topic, question, first, [f for f in found if f not in first]))
    return groups


def _leads(finding: Finding, lead: Sequence[str]) -> bool:
    subject = finding.sentence.replace(",", " ").replace(":", " ").split(" ", 1)[0]
    return finding.topic not in ("safety", "breaks", "nonfinite", "reductions", "fp8") or (subject in lead)
