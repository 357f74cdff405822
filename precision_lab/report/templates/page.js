"use strict";
// Draws the three interactive figures from DATA; every figure is redrawn when the colour scheme changes.
const $ = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const uniq = (list) => [...new Set(list)];
const EAGER_FIRST = ["eager", "upcast", "compiled", "module"];
const EXTRA = { xielu: [["transformers", "module"]] }; // drawn beside the eager formulations

function fill(select, values, preferred) {
  const before = preferred ?? select.value;
  select.replaceChildren(...values.map((v) => new Option(v, v)));
  if (values.includes(before)) select.value = before;
  select.parentElement.hidden = values.length < 2;
}
function layout(extra) {
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"),
    automargin: true, title: { font: { size: 12 } } };
  const base = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--ink") },
    margin: { l: 44, r: 10, t: 34, b: 44 }, hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"),
      font: { color: css("--ink"), size: 12 } } };
  return { ...base, ...extra, xaxis: { ...axis, ...extra.xaxis }, yaxis: { ...axis, ...extra.yaxis } };
}
const CONFIG = { displayModeBar: false, responsive: true }; // dragging zooms, a double click goes back

// 1. Correct bits on the way to 0⁻
const OUTPUTS = [["forward", "forward"], ["grad_x", "d/dx"], ["grad_alpha_n", "d/dα_n"]];
function chooseLines() {
  const fn = $("bits-function").value;
  const rows = DATA.lines.filter((r) => r[0] === fn), formats = uniq(DATA.heat.map((c) => c[2]));
  fill($("bits-format"), formats.filter((f) => rows.some((r) => r[1] === f)));
  const fmt = $("bits-format").value;
  const found = uniq(rows.filter((r) => r[1] === fmt).map((r) => r[2])).filter((e) => e !== "module");
  found.sort((a, b) => (EAGER_FIRST.indexOf(a) + 9) % 9 - (EAGER_FIRST.indexOf(b) + 9) % 9);
  fill($("bits-execution"), found);
}
function drawLines() {
  chooseLines();
  const [fn, fmt, ex] = ["function", "format", "execution"].map((k) => $("bits-" + k).value);
  const extra = (EXTRA[fn] ?? []).filter(() => ex === "eager");
  const rows = DATA.lines.filter((r) => r[0] === fn && r[1] === fmt &&
    (r[2] === ex || extra.some(([i, e]) => r[4] === i && r[2] === e)));
  for (const [output, title] of OUTPUTS) {
    const node = $("bits-" + output), mine = rows.filter((r) => r[3] === output);
    node.hidden = mine.length === 0;
    if (!mine.length) { Plotly.purge(node); continue; }
    const p = mine[0][5];
    const traces = mine.map((r) => ({ x: r[6], y: r[7], name: r[4], mode: "lines", type: "scatter",
      line: { color: DATA.styles[r[4]][0], dash: DATA.styles[r[4]][1], width: r[4] === "stable" ? 5 : 2, shape: "linear" },
      hovertemplate: "%{y:.1f} of " + p + " bits<extra>" + r[4] + "</extra>" }));
    const low = Math.min(...mine.map((r) => Math.min(...r[6]))), high = Math.min(4, Math.max(...mine.map((r) => Math.max(...r[6]))));
    Plotly.react(node, traces, layout({ title: { text: title, font: { size: 14 }, x: 0.02, xanchor: "left" }, hovermode: "x",
      xaxis: { title: { text: "log₂|x|, x < 0 (towards 0 →)", font: { size: 12 } }, range: [high + 0.5, low - 0.5] },
      yaxis: { title: { text: "correct bits (worst input)", font: { size: 12 } }, range: [-0.3, p * 1.06], dtick: p > 12 ? 4 : 2 } }), CONFIG);
  }
  const names = uniq(rows.map((r) => r[4]));
  const dashes = { dash: "6 4", dot: "2 3", dashdot: "7 3 2 3", solid: "" };
  $("bits-legend").innerHTML = names.map((n) => `<li><svg width="30" height="8"><line x1="0" y1="4" x2="30" y2="4" ` +
    `stroke="${DATA.styles[n][0]}" stroke-width="${n === "stable" ? 5 : 2}" stroke-dasharray="${dashes[DATA.styles[n][1]]}"/></svg>${escape(n)}</li>`).join("");
}

// 2. Heat map
const HEAT = [[0, "#58b894"], [0.111, "#a3d9b8"], [0.333, "#f5e1a0"], [0.556, "#f0ae78"], [1, "#d96a62"]];
function drawHeat() {
  if (!DATA.heat.length) return;
  const output = $("heat-output").value, column = $("heat-where").value === "everywhere" ? 5 : 6;
  const group = $("heat-group").value;
  const cells = DATA.heat.filter((c) => (output === "worst of all" || c[4] === output) &&
    (group === "all" || DATA.lead.includes(c[0]) === (group === DATA.lead_title)));
  const formats = uniq(DATA.heat.map((c) => c[2]));
  const order = (e) => (EAGER_FIRST.indexOf(e) + 9) % 9;
  const columns = uniq(cells.map((c) => c[2] + "\n" + c[3])).map((k) => k.split("\n"))
    .sort((a, b) => formats.indexOf(a[0]) - formats.indexOf(b[0]) || order(a[1]) - order(b[1]));
  const rows = uniq(cells.map((c) => c[0] + "\n" + c[1])).map((k) => k.split("\n"));
  const best = new Map();
  for (const c of cells) {
    const key = [c[0], c[1], c[2], c[3]].join("\n"), old = best.get(key);
    const flags = (old?.flags ?? "") + c[7];
    if (!old || (c[column] ?? 999) > (old.c[column] ?? 999)) best.set(key, { c, flags }); else old.flags = flags;
  }
  const at = (r, k) => best.get([...r, ...k].join("\n"));
  const value = (cell) => (cell ? Math.min(8, cell.c[column] ?? 8) : null);
  const ulp = (v) => (v === null ? "not finite" : v < 3.3 ? (2 ** v).toFixed(2) : v < 13.3 ? (2 ** v).toFixed(0) : "2^" + v.toFixed(0));
  const short = (v) => (v === null ? "–" : v < 3.3 ? (2 ** v).toFixed(1) : v < 10 ? (2 ** v).toFixed(0) : `2<sup>${v.toFixed(0)}</sup>`);
  const z = rows.map((r) => columns.map((k) => value(at(r, k))));
  const text = rows.map((r) => columns.map((k) => { const s = at(r, k); if (!s) return "";
    const flags = (s.flags.includes("±") ? "±" : "") + (s.flags.includes("∞") ? "∞" : "");
    return short(s.c[column]) + (flags && " " + flags); }));
  const hover = rows.map((r) => columns.map((k) => { const s = at(r, k); if (!s) return "";
    return `<b>${escape(r.join(" · "))}</b><br>${k.join(", ")}<br>${ulp(s.c[column])} ulp<br>` +
      escape(s.c[8]).replaceAll("; ", "<br>"); }));
  $("heat").style.height = Math.max(280, 150 + 21 * rows.length) + "px";
  Plotly.react("heat", [{ type: "heatmap", z, text, customdata: hover, texttemplate: "%{text}", colorscale: HEAT, zmin: -1, zmax: 8,
    x: columns.map((k) => k[0] + "<br>" + k[1].replace(", saturating", "<br>saturating")), y: rows.map((r) => r.join(" · ")), xgap: 2, ygap: 2, hoverongaps: false,
    textfont: { size: 10.5, color: "#14202b" }, hovertemplate: "%{customdata}<extra></extra>",
    colorbar: { title: { text: "ulp", side: "top" }, thickness: 12, tickvals: [-1, 0, 2, 4, 6, 8], ticktext: ["0.5", "1", "4", "16", "64", "≥ 256"],
      outlinewidth: 0, len: Math.min(1, 320 / (150 + 21 * rows.length)), y: 1, yanchor: "top" } }],
    layout({ margin: { l: 150, r: 10, t: 84, b: 10 }, xaxis: { side: "top", tickangle: 0, tickfont: { size: 11 }, showgrid: false },
      yaxis: { autorange: "reversed", tickfont: { size: 11 }, showgrid: false } }), CONFIG);
}

// 3. Timings
function drawTimings() {
  if (!DATA.timings.length) return;
  const [fmt, direction, unit] = ["format", "direction", "unit"].map((k) => $("time-" + k).value);
  const rows = DATA.timings.filter((t) => t[2] === fmt && t[3] === direction && t[4] !== null);
  const column = { "ns per element": 4, "ratio to SiLU": 7, "ratio to copy": 8 }[unit];
  const value = (t) => t[column], scale = (t) => t[column] / t[4];
  rows.sort((a, b) => value(b) - value(a));
  const lead = (t) => DATA.lead.includes(t[0]);
  $("times").style.height = 90 + 19 * rows.length + "px";
  Plotly.react("times", [{ type: "bar", orientation: "h", y: rows.map((t) => t[0] + " · " + t[1]), x: rows.map(value),
    marker: { color: rows.map((t) => (lead(t) ? css("--accent") : css("--note"))), opacity: 0.85 },
    error_x: { type: "data", symmetric: false, array: rows.map((t) => (t[6] - t[4]) * scale(t)),
      arrayminus: rows.map((t) => (t[4] - t[5]) * scale(t)), color: css("--ink"), thickness: 1, width: 3 },
    hovertemplate: "%{y}<br>%{x:.3g} " + unit + "<extra></extra>" }],
    layout({ margin: { l: 150, r: 20, t: 10, b: 44 }, bargap: 0.3, xaxis: { title: { text: unit + " (median; whiskers: quartiles)" }, rangemode: "tozero" },
      yaxis: { tickfont: { size: 11 }, dtick: 1, showgrid: false } }), CONFIG);
}

function start() {
  const functions = uniq(DATA.heat.map((c) => c[0])).filter((f) => DATA.lines.some((r) => r[0] === f));
  if (functions.length) {
    fill($("bits-function"), functions, DATA.lead.find((f) => functions.includes(f)) ?? functions[0]);
    fill($("bits-format"), uniq(DATA.lines.filter((r) => r[0] === $("bits-function").value).map((r) => r[1])), "bf16");
  }
  if (DATA.heat.length) {
    fill($("heat-output"), ["worst of all", ...uniq(DATA.heat.map((c) => c[4]))]);
    fill($("heat-group"), DATA.heat.some((c) => !DATA.lead.includes(c[0])) && DATA.heat.some((c) => DATA.lead.includes(c[0]))
      ? [DATA.lead_title, "other functions", "all"] : ["all"]);
  }
  if (DATA.timings.length) {
    fill($("time-format"), uniq(DATA.timings.map((t) => t[2])), "bf16");
    fill($("time-direction"), uniq(DATA.timings.map((t) => t[3])));
  }
  const drawings = [[() => functions.length && drawLines(), "bits-"], [drawHeat, "heat-"], [drawTimings, "time-"]];
  const all = () => drawings.forEach(([draw]) => draw());
  for (const [draw, prefix] of drawings)
    document.querySelectorAll(`select[id^="${prefix}"]`).forEach((s) => s.addEventListener("change", draw));
  all();
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", all);
  // Paper cannot unfold: findings are printed whole, tables as the reader left them.
  let folded = [];
  addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details.finding:not([open])")];
    folded.forEach((d) => { d.open = true; }); });
  addEventListener("afterprint", () => folded.forEach((d) => { d.open = false; }));
  // A link into a folded table opens it first.
  const reveal = () => { const target = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1)));
    if (target) { for (let n = target; n; n = n.parentElement) if (n.tagName === "DETAILS") n.open = true; target.scrollIntoView({ block: "center" }); } };
  addEventListener("hashchange", reveal); reveal();
}
start();
