"use strict";
// What the page is made of, in order, and what is drawn anew when something changes.
(() => {
  const { element, data } = explorer;
  const NAMES = { model: "model", task: "task", method: "method", budget: "budget", mode: "budget mode", seed: "seed" };

  function menus() {
    const place = document.querySelector(".menus");
    place.replaceChildren();
    for (const [name, title] of Object.entries(NAMES)) {
      const values = explorer.values(name), wanted = explorer.chosen(name);
      if (values.length < 2) continue;
      const boxes = values.map(value => {
        const box = element("input", { type: "checkbox", name, value });
        box.checked = wanted.has(value);
        box.addEventListener("change", () => {
          const next = new Set(explorer.chosen(name));
          if (box.checked) next.add(value); else next.delete(value);
          explorer.choose(name, next);
        });
        return element("label", {}, box, element("bdi", {}, value));
      });
      place.append(element("details", { class: "menu", "data-filter": name }, element("summary", {}, said(name, title)), element("div", { class: "choices" }, boxes)));
    }
  }
  const said = (name, title) => { const wanted = [...explorer.chosen(name)]; return `${title}: ${wanted.length ? wanted.slice(0, 2).join(", ") + (wanted.length > 2 ? ` and ${wanted.length - 2}` : "") : "all"}`; };
  function marks() {
    for (const menu of document.querySelectorAll(".menus .menu")) {
      const name = menu.dataset.filter;
      menu.querySelector("summary").textContent = said(name, NAMES[name]);
      menu.classList.toggle("active", explorer.chosen(name).size > 0);
      for (const box of menu.querySelectorAll("input")) box.checked = explorer.chosen(name).has(box.value);
    }
    const shown = explorer.cells.filter(row => explorer.passes(row)).length;
    document.getElementById("shown").textContent = `${shown} of ${explorer.cells.length} cells`;
    others();
  }

  // tables that were written with the page: lines of what the filters leave out are hidden
  function others() {
    const methods = explorer.chosen("method"), budgets = explorer.chosen("budget"), models = explorer.chosen("model");
    for (const table of document.querySelectorAll("table.unibench")) for (const body of table.tBodies) {
      const block = body.querySelector("tr.block")?.textContent ?? "";
      body.hidden = Boolean(models.size && block) && ![...models].some(model => block.startsWith(model));
      for (const row of body.querySelectorAll("tr:not(.block)")) {
        const [method, budget] = [...row.cells].slice(0, 2).map(cell => cell.firstChild?.textContent.trim() ?? "");
        row.hidden = (methods.size > 0 && method !== "vanilla" && !methods.has(method)) || (budgets.size > 0 && method !== "vanilla" && !budgets.has(budget));
      }
    }
  }

  function summary() {
    const s = data.summary, facts = document.querySelector(".facts");
    const add = (name, value, extra) => { if (value !== "" && value !== null && value !== undefined) facts.append(element("div", {}, element("dt", {}, name), element("dd", {}, value), extra)); };
    const few = (list, most = 8) => list ? list.slice(0, most).join(", ") + (list.length > most ? ` and ${list.length - most} more` : "") : "";
    add("cells", `${s.cells.toLocaleString("en")} finished, ${s.samples.toLocaleString("en")} answers`);
    if (s.failed || s.partial || s.left_out) {
      const list = (s.failures ?? []).map(([what, why]) => element("li", {}, `${what}: ${why}`));
      add("not in the tables", [s.failed && `${s.failed} failed`, s.partial && `${s.partial} not finished`, s.left_out && `${s.left_out} damaged`].filter(Boolean).join(", "),
        list.length ? element("details", {}, element("summary", {}, "why"), element("ul", {}, list)) : null);
    }
    add("models", few(s.model));
    add("tasks", s.tasks.slice(0, 12).map(([task, low, high]) => `${task} (${low === high ? low : `${low} to ${high}`})`).join(", ") + (s.tasks.length > 12 ? ` and ${s.tasks.length - 12} more` : ""));
    add("methods", few([...new Set(explorer.lines.map(row => row.label))], 12));
    add("budgets", few([...new Set(explorer.lines.filter(row => row.method !== "vanilla").map(row => row.budget))]));
    add("seeds", few(s.seeds.map(String)));
    add("time of the answers", s.timed ? `${s.hours < 1 ? `${(s.hours * 60).toFixed(1)} minutes` : `${s.hours.toFixed(1)} hours`}${s.timed < s.cells ? `, of ${s.timed} timed cells` : ""}` : "not measured");
    add("devices", few(s.device));
    add("when", s.dates?.length ? (s.dates[0] === s.dates[1] ? s.dates[0] : `${s.dates[0]} to ${s.dates[1]}`) : "");
    add("hosts", few(s.hosts));
    add("by", few(s.users));
    add("harnesses", few(s.harness));
    add("code", few(s.code, 3));
    add("results", s.out);
    add("page", `${s.made}, unibench ${s.version}`);
  }

  const THEMES = ["system", "light", "dark"], night = matchMedia("(prefers-color-scheme: dark)");
  function theme() {
    const wanted = explorer.settings.theme ?? "system", isDark = wanted === "dark" || (wanted === "system" && night.matches);
    document.documentElement.classList.toggle("dark", isDark);
    document.getElementById("theme").textContent = `theme: ${wanted}`;
  }

  summary();
  theme();
  plots.start();
  findings.start();
  gallery.start();
  menus();
  const draws = [tables.best, tables.scores, tables.cells, findings.compare, findings.recommend, marks, plots.draw, gallery.draw];
  const all = () => { for (const draw of draws) draw(); };
  explorer.listen(["filter"], all);
  explorer.listen(["cost"], plots.draw);
  explorer.listen(["compare"], findings.compare);
  explorer.listen(["recommend"], findings.recommend);
  explorer.listen(["cell"], tables.cell);
  explorer.listen(["theme"], () => { theme(); plots.draw(); });
  night.addEventListener("change", () => { theme(); plots.draw(); });
  for (const id of ["value", "intervals"]) document.getElementById(id).addEventListener("change", tables.scores);
  document.getElementById("reset").addEventListener("click", explorer.reset);
  document.getElementById("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(explorer.settings.theme ?? "system") + 1) % THEMES.length];
    explorer.set("theme", next === "system" ? "" : next, "theme");
  });
  document.getElementById("link").addEventListener("click", async event => {
    try { await navigator.clipboard.writeText(location.href); event.target.textContent = "copied"; } catch { prompt("the address of this view", location.href); }
    setTimeout(() => { event.target.textContent = "copy link"; }, 1500);
  });
  document.getElementById("cell").addEventListener("close", () => explorer.set("cell", "", ""));
  document.getElementById("filters").addEventListener("submit", event => event.preventDefault());
  // a section is gone to without losing the filters that the address holds
  for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", event => {
    event.preventDefault();
    document.getElementById(link.hash.slice(1)).scrollIntoView();
    explorer.set("section", link.hash.slice(1), "");
  });
  addEventListener("hashchange", () => { explorer.reread(); menus(); theme(); all(); if (explorer.settings.cell) tables.cell(); });
  addEventListener("click", event => { for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false; });
  addEventListener("keydown", event => { if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false; });
  all();
  if (explorer.settings.cell) tables.cell();
  if (explorer.settings.section) document.getElementById(explorer.settings.section)?.scrollIntoView();
  document.documentElement.dataset.ready = "yes";
})();
