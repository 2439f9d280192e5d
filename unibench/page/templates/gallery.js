"use strict";
// Samples that pruned cells answer otherwise than vanilla: a list, one of them at large, keys to walk.
const gallery = (() => {
  const { element } = explorer;
  const CELLS = 8, LISTED = 300; // loaded at once; shown at once
  const loaded = new Map(); // key of a cell -> its samples
  let most = CELLS, items = [], current = -1, turn = 0;

  const title = row => `${row.at.model} ${row.label} ${row.budget} ${row.at.task}${row.seed[0] ? ` seed ${row.seed[0]}` : ""}`;
  // methods at one budget stand together, the smallest budget first: there most differs
  const wanted = () => explorer.cells.filter(row => row.method !== "vanilla" && row.detail?.[2] && explorer.passes(row))
    .sort((a, b) => a.place - b.place || (b.share ?? 0) - (a.share ?? 0) || a.index - b.index);

  async function load(row) {
    if (loaded.has(row.key[0])) return;
    const [told, asked] = await Promise.all([explorer.load(`cell${row.detail[0]}`), explorer.load(`questions${row.detail[1]}`)]);
    loaded.set(row.key[0], told.samples.map(([id, answer, score, kept, layout, count, scores]) => {
      const [ability, question, truth, pictures, [vanilla, before, whole, wholeLayout, wholeCount], tokens] = asked.asked[id];
      const change = score === before ? "other" : score < before ? "lost" : "won";
      return { row, id, ability, question, truth, pictures, change, tokens, layouts: asked.layouts,
        vanilla: { answer: vanilla, score: before, kept: whole, layout: wholeLayout, count: wholeCount }, pruned: { answer, score, kept, layout, count, scores }, scored: told.scored };
    }));
  }

  async function draw() {
    const mine = ++turn, state = document.getElementById("gallery-state"), rows = wanted(), here = rows.slice(0, most);
    state.textContent = here.length ? "loading …" : "No answer of the cells shown differs, or vanilla is missing.";
    const failed = [];
    for (const row of here) {
      try { await load(row); } catch (error) { failed.push(error.message); }
      if (mine !== turn) return;
    }
    abilities(here);
    filter(here);
    const of = rows.length > here.length ? ` of the first ${here.length} of ${rows.length} cells` : here.length === 1 ? " of one cell" : ` of ${here.length} cells`;
    const remarks = [...explorer.data.remarks, ...(explorer.data.left ? [`${explorer.data.left} cells have no samples here: they are too many, or damaged.`] : [])];
    state.replaceChildren(here.length ? `${items.length} samples${of}. ` : state.textContent, ...[...failed, ...remarks].map(text => element("span", { class: "remark" }, text)));
    document.getElementById("more-cells").hidden = rows.length <= here.length;
  }

  function abilities(rows) {
    const select = document.getElementById("ability"), found = new Set();
    for (const row of rows) for (const one of loaded.get(row.key[0]) ?? []) found.add(one.ability);
    const before = explorer.settings.ability ?? "";
    select.replaceChildren(element("option", { value: "" }, "any"), ...[...found].sort().map(name => element("option", { value: name }, name.replaceAll("_", " "))));
    select.value = found.has(before) ? before : "";
  }

  function filter(rows) {
    const change = document.getElementById("change").value, ability = document.getElementById("ability").value, words = document.getElementById("words").value.toLowerCase();
    const text = one => [one.id, one.question, one.truth, one.vanilla.answer, one.pruned.answer].join("\n").toLowerCase();
    items = rows.flatMap(row => loaded.get(row.key[0]) ?? []).filter(one =>
      (!change || one.change === change) && (!ability || one.ability === ability) && (!words || text(one).includes(words)));
    const list = document.getElementById("samples");
    list.replaceChildren(...items.slice(0, LISTED).map((one, number) => element("li", { role: "option", id: `sample-${number}`, class: one.change, onclick: () => select(number) },
      element("span", { class: "change" }, one.change === "other" ? "other" : one.change), " ", element("bdi", {}, one.id), element("small", {}, title(one.row)))));
    if (items.length > LISTED) list.append(element("li", { class: "note" }, `${items.length - LISTED} more: filter to see them`));
    const named = explorer.settings.sample, at = items.findIndex(one => `${one.row.key[0]}/${one.id}` === named);
    current = -1;
    if (items.length) select(at >= 0 ? at : 0, false);
    else document.getElementById("sample").replaceChildren();
  }

  function select(number, byHand = true) {
    if (number < 0 || number >= Math.min(items.length, LISTED)) { if (number >= LISTED && number < items.length) show(items[number]); return; }
    const list = document.getElementById("samples");
    list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    current = number;
    const item = list.children[number];
    item.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", item.id);
    const one = items[number];
    if (byHand) {
      const box = list.getBoundingClientRect(), mine = item.getBoundingClientRect();
      if (mine.top < box.top || mine.bottom > box.bottom) list.scrollTop += mine.top - box.top - box.height / 3;
      explorer.set("sample", `${one.row.key[0]}/${one.id}`, "sample");
    }
    show(one);
  }

  function show(one) {
    const said = (name, what) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, element("bdi", { dir: "auto" }, what.answer)), element("td", { class: "number" }, what.score === null ? "" : format.number(what.score, 2)));
    const others = []; // the same question, as other cells that are loaded answer it
    for (const [key, samples] of loaded) {
      if (key === one.row.key[0]) continue;
      const same = samples.find(other => other.id === one.id && other.row.place === one.row.place && explorer.passes(other.row));
      if (same) others.push(same);
    }
    document.getElementById("sample").replaceChildren(
      element("h3", {}, element("span", { class: `change ${one.change}` }, one.change), " ", element("bdi", {}, one.id)),
      element("p", { class: "note" }, `${title(one.row)}; ability: ${one.ability || "none"}; `, element("a", { href: "#", onclick: event => { event.preventDefault(); explorer.set("cell", one.row.key[0], "cell"); } }, `cell ${one.row.key[0]}`)),
      element("dl", {}, element("dt", {}, "question"), element("dd", { dir: "auto" }, one.question || "(not kept)"), element("dt", {}, "truth"), element("dd", { dir: "auto" }, one.truth)),
      element("div", { class: "scroll" }, element("table", { class: "answers" }, element("thead", {}, element("tr", {}, ["", "answer", "score"].map(text => element("th", { scope: "col" }, text)))),
        element("tbody", {}, said("vanilla", one.vanilla), said(`${one.row.label} ${one.row.budget}`, one.pruned), others.map(other => said(`${other.row.label} ${other.row.budget}`, other.pruned))))),
      element("div", { class: "figures" }, [one, ...others].flatMap((each, number) => {
        const name = `${each.row.label} ${each.row.budget}`;
        return [...(number ? [] : whole(each)), ...figures(each, name), ...heats(each, name)];
      })),
      ...unscored(one),
    );
  }

  const describe = one => `picture of sample ${one.id}: ${one.question}`.slice(0, 300);
  function picture(name, alt, overlay, caption) {
    const frame = element("div", { class: "frame" }, element("img", { src: `pictures/${name}`, alt, loading: "lazy" }), overlay);
    const button = element("button", { type: "button", class: "enlarge", "aria-label": `enlarge: ${caption}` }, frame);
    button.addEventListener("click", () => enlarge(frame, caption));
    return element("figure", {}, button, element("figcaption", {}, caption));
  }
  function whole(one) {
    return one.pictures.map((name, number) => name && picture(name, describe(one), null, one.pictures.length > 1 ? `picture ${number + 1} of ${one.pictures.length}` : "picture"));
  }
  function figures(one, name) {
    const views = one.layouts[one.pruned.layout] ?? [], mask = bits(one.pruned.kept);
    return views.map(([number, grids]) => {
      const file = one.pictures[number];
      if (!file || !grids.length) return null;
      const caption = `${name}: kept ${one.pruned.count} of ${one.tokens}${views.length > 1 ? `, view of picture ${number + 1}` : ""}`;
      return picture(file, `${describe(one)}; ${caption}; dropped places are dark`, shade(grids, mask), caption);
    });
  }

  // the scores of the first cut, on the picture
  const few = value => String(Number(value.toPrecision(3)));
  function heats(one, name) {
    if (!one.pruned.scores) return [];
    const [layer, low, high, text] = one.pruned.scores, values = shares(text);
    if (!values.some(Number.isFinite)) return [];
    const byRank = document.getElementById("scale").value === "rank", colour = byRank ? ranks(values) : values;
    return (one.layouts[one.pruned.layout] ?? []).map(([number, grids]) => {
      const file = one.pictures[number];
      if (!file || !grids.length) return null;
      const caption = `${name}: scores at layer ${layer}, from ${few(low)} (dark) to ${few(high)} (yellow)${byRank ? ", coloured by rank" : ""}`;
      return picture(file, `${describe(one)}; ${caption}`, heat(grids, colour), caption);
    });
  }
  function unscored(one) {
    if (one.pruned.scores || !one.pictures.some(Boolean)) return [];
    const why = one.scored ? "This method hands over no score for each token, so there is no heat map." : "For a heat map of the scores, answer again with scores=true and another out=.";
    return [element("p", { class: "note" }, why)];
  }
  // float16, little endian, base64: NaN where there is no score, minus infinity where a token must not stay
  function shares(text) {
    let bytes;
    try { bytes = atob(text); } catch { return []; }
    return Array.from({ length: bytes.length >> 1 }, (_, i) => {
      const half = bytes.charCodeAt(2 * i) | bytes.charCodeAt(2 * i + 1) << 8, exponent = half >> 10 & 31, fraction = (half & 1023) / 1024;
      const size = exponent === 31 ? (fraction ? NaN : Infinity) : exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
      return half & 32768 ? -size : size;
    });
  }
  function ranks(values) { // equal scores have one colour
    const sorted = [...new Set(values.filter(Number.isFinite))].sort((a, b) => a - b), place = new Map(sorted.map((value, number) => [value, number / Math.max(1, sorted.length - 1)]));
    return values.map(value => place.get(value) ?? value);
  }

  // one bit for each token, the first in the highest bit
  function bits(text) {
    const bytes = atob(text);
    return token => Boolean(bytes.charCodeAt(token >> 3) & (128 >> (token & 7)));
  }
  function drawn(name, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  const overlay = (kind, paths) => drawn("svg", { class: kind, viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" }, ...paths);
  function* squares(grids) { // each token with the outline of its place
    for (const [tokens, height, width, [left, top, right, bottom]] of grids) {
      const w = (right - left) / width, h = (bottom - top) / height;
      for (let i = 0; i < height * width; i++) {
        yield [Array.isArray(tokens) ? tokens[i] : tokens + i, `M${left + (i % width) * w} ${top + Math.floor(i / width) * h}h${w}v${h}h${-w}Z`];
      }
    }
  }
  function shade(grids, kept) {
    let d = "M0 0H1V1H0Z"; // everything dark, kept cells cut out of it
    for (const [token, square] of squares(grids)) if (kept(token)) d += square;
    return overlay("kept", [drawn("path", { d, "fill-rule": "evenodd" })]);
  }
  const COLD = [24, 32, 96], WARM = [255, 196, 0], LEVELS = 48; // the colours of `debug`
  function heat(grids, values) {
    const levels = new Map();
    for (const [token, square] of squares(grids)) {
      const value = values[token];
      if (value === undefined || Number.isNaN(value)) continue;
      const level = Math.round(Math.min(1, Math.max(0, value)) * LEVELS);
      levels.set(level, (levels.get(level) ?? "") + square);
    }
    return overlay("heat", [...levels].map(([level, d]) => drawn("path", { d, fill: `rgb(${COLD.map((cold, i) => Math.round(cold + level / LEVELS * (WARM[i] - cold))).join(" ")} / .68)` })));
  }

  function enlarge(frame, caption) {
    const dialog = document.getElementById("large");
    dialog.querySelector("div").replaceChildren(frame.cloneNode(true), element("p", {}, caption));
    if (!dialog.open) dialog.showModal();
  }

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA|BUTTON)$/.test(event.target.tagName)) return;
    const steps = { ArrowDown: current + 1, j: current + 1, ArrowUp: current - 1, k: current - 1, Home: 0, End: Math.min(items.length, LISTED) - 1 };
    if (event.key in steps) select(Math.max(0, steps[event.key]));
    else if (event.key === "Enter") (document.querySelector("#sample .enlarge:has(svg)") ?? document.querySelector("#sample .enlarge"))?.click();
    else return;
    event.preventDefault();
  }

  function start() {
    const redraw = () => filter(wanted().slice(0, most));
    for (const id of ["change", "ability", "words", "scale"]) {
      const field = document.getElementById(id);
      if (explorer.settings[id]) field.value = explorer.settings[id];
      field.addEventListener(id === "words" ? "input" : "change", () => { explorer.set(id, field.value); redraw(); });
    }
    document.getElementById("samples").addEventListener("keydown", key);
    document.getElementById("sample").addEventListener("keydown", key);
    document.getElementById("more-cells").addEventListener("click", () => { most += CELLS; draw(); });
  }
  return { start, draw };
})();
