"use strict";
// What the page knows, what it shows of it, and who wants to hear of a change.
const explorer = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  // columns to rows; a line knows its place and how it is called
  function rows(columns) {
    const names = Object.keys(columns), found = [];
    for (let i = 0; i < columns.place.length; i++) {
      const row = { index: i };
      for (const name of names) row[name] = columns[name][i];
      row.at = data.places[row.place];
      row.label = row.variant ? `${row.method} ${row.variant}` : row.method;
      row.share = row.ratio ?? (row.tokens_in ? 1 - row.kept_mean / row.tokens_in : null);
      if (row.verdict) [row.mark, row.against, row.against_score, row.gain, row.gain_low, row.gain_high, row.beaten] = row.verdict;
      found.push(row);
    }
    return found;
  }
  const lines = rows(data.lines), cells = rows(data.cells), abilities = rows(data.abilities);

  const FILTERS = {
    model: row => row.at.model,
    task: row => row.at.task,
    method: row => row.label,
    budget: row => row.budget,
    mode: row => row.budget_scope === "sequence" ? row.budget_mode : `${row.budget_mode} ${row.budget_scope}`,
    seed: row => row.seed,
  };
  const PRUNED = new Set(["method", "budget", "mode", "seed"]); // vanilla has none of them
  const chosen = Object.fromEntries(Object.keys(FILTERS).map(name => [name, new Set()]));
  const settings = {}; // everything else that a link holds
  const listeners = [];

  function values(name) {
    const found = new Set();
    for (const row of cells)
      if (!PRUNED.has(name) || row.method !== "vanilla" || name === "method")
        for (const value of [FILTERS[name](row)].flat()) found.add(String(value));
    const sorted = [...found].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    return name === "method" ? ["vanilla", ...sorted.filter(one => one !== "vanilla")].filter(one => found.has(one)) : sorted;
  }
  function passes(row, except) {
    for (const [name, wanted] of Object.entries(chosen)) {
      if (!wanted.size || name === except) continue;
      if (PRUNED.has(name) && row.method === "vanilla") continue;
      if (![FILTERS[name](row)].flat().some(value => wanted.has(String(value)))) return false;
    }
    return true;
  }

  // the part of the address after #: an anchor of the page, or filters and settings
  function read() {
    const words = new URLSearchParams(location.hash.slice(1));
    for (const key of Object.keys(settings)) delete settings[key];
    for (const name of Object.keys(FILTERS)) chosen[name] = new Set(words.getAll(name));
    for (const [key, value] of words) if (!(key in FILTERS) && value) settings[key] = value;
  }
  function address() {
    const words = new URLSearchParams();
    for (const [name, wanted] of Object.entries(chosen)) for (const value of wanted) words.append(name, value);
    for (const [key, value] of Object.entries(settings)) if (value) words.set(key, value);
    return `#${words}`;
  }
  function tell(what) {
    history.replaceState(null, "", address());
    for (const [kinds, listener] of listeners) if (kinds.includes(what)) listener(what);
  }

  // the only way in which text reaches the page: as text
  function element(tag, attributes = {}, ...children) {
    const found = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === false || value === null || value === undefined) continue;
      if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
      else found.setAttribute(name, value === true ? "" : value);
    }
    found.append(...children.flat().filter(child => child !== null && child !== undefined));
    return found;
  }

  // scripts of the folder that hand over a value: a page opened from disk may read no file
  const waiting = new Map();
  function load(name) {
    if (!waiting.has(name)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => { entry.resolve = resolve; entry.reject = reject; });
      waiting.set(name, entry);
      const script = element("script", { src: `details/${name}.js` });
      script.addEventListener("error", () => entry.reject(new Error(`details/${name}.js is not beside this page`)));
      document.head.append(script);
    }
    return waiting.get(name).promise;
  }

  read();
  return {
    data, lines, cells, abilities, settings, FILTERS,
    values, passes, element, load,
    take: (name, value) => waiting.get(name)?.resolve(value),
    chosen: name => chosen[name],
    choose(name, wanted) { chosen[name] = new Set(wanted); tell("filter"); },
    reset() { for (const name of Object.keys(chosen)) chosen[name] = new Set(); tell("filter"); },
    set(key, value, what = "setting") { if (value) settings[key] = value; else delete settings[key]; tell(what); },
    listen: (kinds, listener) => listeners.push([kinds, listener]),
    reread() { read(); for (const [, listener] of listeners) listener("link"); },
    // one line for a series; single cells where a seed is chosen
    shown() { return (chosen.seed.size ? cells : lines).filter(row => passes(row)); },
  };
})();

const format = {
  number(value, digits = 1) {
    if (value === null || value === undefined) return "";
    return Math.abs(value) < 10 && digits > 1 ? value.toPrecision(3) : value.toFixed(digits);
  },
  signed: (value, digits = 1) => value === null || value === undefined ? "" : (value > 0 ? "+" : "") + value.toFixed(digits),
  span: (low, high, sign) => low === null || low === undefined ? "" : `${format[sign ? "signed" : "number"](low)} to ${format[sign ? "signed" : "number"](high)}`,
  p: value => value === null || value === undefined ? "" : value < 0.001 ? "< 0.001" : value.toFixed(3),
};
