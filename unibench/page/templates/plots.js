"use strict";
// Plots by Vega-Lite. Expressions are interpreted, so that no script is made from text.
const plots = (() => {
  const { element } = explorer;
  const COSTS = {
    prefill_ms: "prefill, ms (vision and method in it)", method_ms: "method, ms", total_s: "whole cell, s",
    tflops: "TFLOP of the prefill", equiv_tokens: "visual tokens that a layer reads, mean", kv_mib: "KV cache, MiB", peak_mib: "peak memory, MiB",
  };
  const FIRST = 8; // panels that are drawn at once
  let most = FIRST, drawing = 0;

  const dark = () => document.documentElement.classList.contains("dark");
  // black is a colour of the palette, and is not seen on black
  function colour(label) {
    const [found] = explorer.data.looks[label] ?? [dark() ? "#AAAAAA" : "#555555"]; // vanilla's
    return found === "#000000" && dark() ? "#FFFFFF" : found;
  }
  const shape = label => (explorer.data.looks[label] ?? ["", "circle"])[1];

  function looks(rows) {
    const labels = [...new Set(rows.map(row => row.label))];
    return {
      color: { field: "label", type: "nominal", legend: null, scale: { domain: labels, range: labels.map(colour) } },
      shape: { field: "label", type: "nominal", legend: null, scale: { domain: labels, range: labels.map(shape) } },
    };
  }
  const said = row => ({
    label: row.label, budget: row.budget, x: row.share, score: row.score_100, low: row.low, high: row.high,
    interval: format.span(row.low, row.high), control: row.against ? `${format.signed(row.gain)} (${format.span(row.gain_low, row.gain_high, true)}) ${row.against}` : "none run", n: row.n,
  });
  const TOLD = [
    { field: "label", title: "method" }, { field: "budget", title: "budget" }, { field: "score", title: "score", format: ".1f" },
    { field: "interval", title: "95 %" }, { field: "control", title: "over best control" }, { field: "n", title: "samples" },
  ];
  const zoom = () => innerWidth < 600 ? [] : [{ name: "zoom", select: { type: "interval", zoom: "wheel![event.shiftKey]", clear: "dblclick" }, bind: "scales" }];
  const y = { field: "score", type: "quantitative", title: "score", scale: { zero: false } };
  const span = [{ field: "low", type: "quantitative", title: "score", scale: { zero: false } }, { field: "high" }];

  function byRatio(rows) {
    const pruned = rows.filter(row => row.method !== "vanilla" && row.share !== null).map(said);
    if (new Set(pruned.map(row => row.x)).size < 2) return null;
    const { color, shape } = looks(pruned), x = { field: "x", type: "quantitative", title: "share of visual tokens removed", scale: { zero: false, padding: 12 } };
    const vanilla = rows.filter(row => row.method === "vanilla").map(row => ({ ...said(row), budget: "" }));
    return {
      data: { values: pruned },
      layer: [
        { data: { values: vanilla }, mark: { type: "rule", strokeDash: [5, 4], opacity: 0.8, tooltip: true }, encoding: { y, tooltip: TOLD.slice(0, 4) } },
        { mark: { type: "line", opacity: 0.8 }, encoding: { x, y, color } },
        { mark: { type: "rule", opacity: 0.5 }, encoding: { x, y: span[0], y2: span[1], color } },
        { params: zoom(), mark: { type: "point", filled: true, size: 70, opacity: 1 }, encoding: { x, y, color, shape, tooltip: TOLD } },
      ],
    };
  }

  // a point is on the front unless another is better and no dearer, both beyond their intervals
  function onFront(points) {
    return point => !points.some(other => other !== point && other.cost_high <= point.cost_low && (other.low ?? other.score) > (point.high ?? point.score));
  }
  function pareto(rows, cost) {
    const points = rows.filter(row => row[cost] !== null && row.score_100 !== null).map(row => {
      const timed = cost === "prefill_ms" && row.prefill_low !== null && row.prefill_low !== undefined;
      return { ...said(row), budget: row.method === "vanilla" ? "" : row.budget, cost: row[cost], cost_low: timed ? row.prefill_low : row[cost], cost_high: timed ? row.prefill_high : row[cost] };
    });
    if (points.length < 2) return null;
    const front = onFront(points);
    for (const point of points) { point.front = front(point); point.spend = `${format.number(point.cost, 2)}${point.cost_low < point.cost_high ? ` (${format.number(point.cost_low, 2)} to ${format.number(point.cost_high, 2)})` : ""}`; }
    const { color, shape } = looks(points);
    const x = { field: "cost", type: "quantitative", title: COSTS[cost], scale: { zero: false, padding: 16 } };
    const told = [...TOLD.slice(0, 4), { field: "spend", title: COSTS[cost] }, ...TOLD.slice(4), { field: "front", title: "on the front" }];
    // the line joins what is best so far among the points of the front
    let most = -Infinity;
    const steps = points.filter(point => point.front).sort((a, b) => a.cost - b.cost || b.score - a.score).filter(point => point.score > most && ((most = point.score), true));
    return {
      data: { values: points },
      layer: [
        { data: { values: steps }, mark: { type: "line", interpolate: "step-after", color: "#888", strokeDash: [3, 3] }, encoding: { x, y } },
        { mark: { type: "rule", opacity: 0.5 }, encoding: { x, y: span[0], y2: span[1], color } },
        { mark: { type: "rule", opacity: 0.5 }, encoding: { x: { ...x, field: "cost_low" }, x2: { field: "cost_high" }, y, color } },
        { params: zoom(), mark: { type: "point", size: 80, strokeWidth: 2 }, encoding: { x, y, color, shape, tooltip: told, fill: { condition: { test: "datum.front", field: "label", type: "nominal", legend: null, scale: color.scale }, value: "transparent" } } },
        { data: { values: steps }, mark: { type: "text", dx: 8, dy: -8, align: "left", fontSize: 10 }, encoding: { x, y, text: { field: "budget" } } },
      ],
    };
  }

  function overControl(rows) {
    const values = rows.filter(row => row.against).map(row => ({ ...said(row), gain: row.gain, gain_low: row.gain_low, gain_high: row.gain_high, name: `${row.label} ${row.budget}` }));
    if (!values.length) return null;
    const { color, shape } = looks(values);
    const rowsOf = { field: "name", type: "nominal", title: null, sort: { field: "gain", order: "descending" }, axis: { labelLimit: 160 } };
    return {
      height: 18 * new Set(values.map(one => one.name)).size, data: { values },
      layer: [
        { data: { values: [{ zero: 0 }] }, mark: { type: "rule", strokeDash: [5, 4], opacity: 0.8 }, encoding: { x: { field: "zero", type: "quantitative" } } },
        { mark: { type: "rule", size: 2 }, encoding: { y: rowsOf, x: { field: "gain_low", type: "quantitative", title: "points over the best control" }, x2: { field: "gain_high" }, color } },
        { mark: { type: "point", filled: true, size: 70, opacity: 1 }, encoding: { y: rowsOf, x: { field: "gain", type: "quantitative" }, color, shape, tooltip: TOLD } },
      ],
    };
  }

  function heat(rows) {
    const tasks = new Set(rows.map(row => row.at.title));
    const parts = tasks.size === 1 ? explorer.abilities.filter(row => explorer.passes(row) && tasks.has(row.at.title)) : rows;
    const values = parts.filter(row => row.method !== "vanilla" && row.retention_pct !== null).map(row => ({
      name: `${row.label} ${row.budget}`, column: tasks.size === 1 ? row.ability : tables.task.value(row), value: row.retention_pct, score: row.score_100, n: row.n,
    }));
    if (new Set(values.map(one => one.column)).size < 2) return null;
    const x = { field: "column", type: "nominal", title: null, axis: { orient: "top", labelAngle: -30, labelLimit: 120 } }, row = { field: "name", type: "nominal", title: null, axis: { labelLimit: 160 } };
    const tooltip = [{ field: "name", title: "method" }, { field: "column", title: "of" }, { field: "value", title: "% of vanilla", format: ".1f" }, { field: "score", format: ".1f" }, { field: "n", title: "samples" }];
    const [low, high] = [Math.min(...values.map(one => one.value)), Math.max(100, ...values.map(one => one.value))];
    return {
      height: 18 * new Set(values.map(one => one.name)).size, data: { values },
      layer: [
        { mark: { type: "rect" }, encoding: { x, y: row, color: { field: "value", type: "quantitative", title: "% of vanilla", scale: { scheme: "cividis", domain: [low, high] } }, tooltip } },
        { mark: { type: "text", fontSize: 10 }, encoding: { x, y: row, text: { field: "value", format: ".0f" }, color: { condition: { test: `datum.value > ${(low + high) / 2}`, value: "#111" }, value: "#fff" } } },
      ],
    };
  }

  function config() {
    const ink = dark() ? "#e6edf3" : "#1b1f24", faint = dark() ? "#39424d" : "#dde2e7";
    return {
      background: "transparent", font: "system-ui, sans-serif", view: { stroke: faint },
      axis: { labelColor: ink, titleColor: ink, gridColor: faint, domainColor: faint, tickColor: faint },
      legend: { labelColor: ink, titleColor: ink }, text: { color: ink }, rule: { color: ink }, point: { color: ink }, line: { color: ink },
    };
  }

  async function panel(place, title, spec, turn) {
    const figure = element("figure", { class: "plot" }, element("figcaption", {}, title)), body = element("div", { class: "vega", role: "img", "aria-label": title });
    figure.append(body);
    place.append(figure);
    await vegaEmbed(body, { $schema: "https://vega.github.io/schema/vega-lite/v6.json", width: "container", height: 260, autosize: { type: "fit-x", contains: "padding" }, ...spec }, {
      ast: true, renderer: "svg", config: config(), tooltip: { theme: dark() ? "dark" : "light" },
      actions: { export: true, source: false, compiled: false, editor: false }, downloadFileName: title.replace(/[^\w.-]+/g, "_"),
    });
    return turn === drawing;
  }

  function panels(rows) {
    const cost = document.getElementById("cost").value, found = [];
    const places = new Map();
    for (const row of rows) (places.get(row.at) ?? places.set(row.at, []).get(row.at)).push(row);
    for (const [at, here] of places) {
      const modes = new Map();
      for (const row of here) if (row.method !== "vanilla") modes.set(explorer.FILTERS.mode(row), true);
      for (const mode of modes.keys()) { // budgets that mean something else never share a plot
        const part = here.filter(row => row.method === "vanilla" || explorer.FILTERS.mode(row) === mode), title = modes.size > 1 ? `${at.title}, ${mode}` : at.title;
        found.push([`${title}: score and ${(COSTS[cost] ?? "").split(" (")[0]}`, () => pareto(part, cost)], [`${title}: score by ratio`, () => byRatio(part)], [`${title}: over the best control`, () => overControl(part)]);
      }
    }
    const conditions = new Map();
    for (const row of rows) (conditions.get(row.at.condition) ?? conditions.set(row.at.condition, []).get(row.at.condition)).push(row);
    for (const part of conditions.values()) found.push([`${part[0].at.model}: per cent of vanilla`, () => heat(part)]);
    return found;
  }

  async function draw() {
    const turn = ++drawing, place = document.querySelector(".plots");
    legend();
    place.replaceChildren();
    let drawn = 0;
    const wanted = panels(explorer.shown());
    document.getElementById("more-plots").hidden = true;
    for (const [title, make] of wanted) {
      if (turn !== drawing) return;
      const spec = make();
      if (!spec) continue;
      if (drawn++ === most) { document.getElementById("more-plots").hidden = false; return; }
      if (!await panel(place, title, spec, turn)) return;
    }
    if (!drawn) place.append(element("p", {}, "The results shown are too few for a plot."));
  }

  function legend() {
    const wanted = explorer.chosen("method"), there = new Set(explorer.lines.filter(row => explorer.passes(row, "method")).map(row => row.label));
    const items = Object.keys(explorer.data.looks).filter(label => there.has(label)).map(label => {
      const button = element("button", { type: "button", "aria-pressed": String(!wanted.size || wanted.has(label)) }, symbol(label), label);
      button.addEventListener("click", () => {
        const next = new Set(wanted);
        if (next.has(label)) next.delete(label); else next.add(label);
        explorer.choose("method", next);
      });
      return element("li", {}, button);
    });
    document.querySelector(".legend").replaceChildren(...items);
  }
  const PATHS = {
    circle: "M6 1a5 5 0 1 0 .01 0z", square: "M1.5 1.5h9v9h-9z", "triangle-up": "M6 1l5.2 10H.8z", "triangle-down": "M.8 1h10.4L6 11z",
    diamond: "M6 0l5 6-5 6-5-6z", cross: "M4.3 1h3.4v3.3H11v3.4H7.7V11H4.3V7.7H1V4.3h3.3z", "triangle-left": "M11 .8v10.4L1 6z", "triangle-right": "M1 .8v10.4L11 6z",
  };
  function symbol(label) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    for (const [name, value] of [["viewBox", "0 0 12 12"], ["width", "12"], ["height", "12"], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
    path.setAttribute("d", PATHS[shape(label)]);
    path.setAttribute("fill", colour(label));
    svg.append(path);
    return svg;
  }

  function start() {
    const select = document.getElementById("cost");
    for (const [name, title] of Object.entries(COSTS))
      if (explorer.lines.some(row => row[name] !== null)) select.append(element("option", { value: name }, title));
    const known = [...select.options].map(option => option.value);
    select.value = known.includes(explorer.settings.cost) ? explorer.settings.cost : known[0];
    select.addEventListener("change", () => explorer.set("cost", select.value, "cost"));
    document.getElementById("more-plots").addEventListener("click", () => { most += FIRST; draw(); });
  }
  return { start, draw, symbol, colour };
})();
