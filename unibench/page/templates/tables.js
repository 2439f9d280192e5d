"use strict";
// Tables by DataTables: sorted by a click or Enter on a head, columns to choose, everything as text.
const tables = (() => {
  const { element } = explorer;
  const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  const escaped = text => String(text).replace(/[&<>"']/g, sign => ESCAPES[sign]);
  const kept = {}; // order, columns and page of each table, which is made anew when its columns change

  // columns: {title, value(row), show(row), looks(row), hidden, note}
  function draw(place, columns, rows, options = {}) {
    const old = place.table;
    if (old) { old.destroy(); delete place.table; }
    place.replaceChildren();
    const memory = kept[place.id] ??= { order: null, visible: {} };
    const narrow = matchMedia("(max-width: 640px)").matches; // a phone has no room to say the same in every line
    const needless = column => narrow && rows.length > 1 && ["model", "task"].includes(column.title) && new Set(rows.map(column.value)).size === 1;
    const visible = columns.map(column => memory.visible[column.title] ?? !(column.hidden || needless(column)));
    const heads = columns.map(column => element("th", { scope: "col", title: column.note ?? null }, column.title));
    const table = element("table", { class: "data compact", id: `${place.id}-data` }, element("thead", {}, element("tr", {}, heads)));
    place.append(chooser(columns, visible, memory, number => place.table.column(number)), element("div", { class: "scroll" }, table));
    const order = memory.order && columns.findIndex(column => column.title === memory.order[0]);
    place.table = new DataTable(table, {
      data: rows,
      order: order >= 0 && memory.order ? [[order, memory.order[1]]] : options.order ?? [],
      paging: rows.length > 100, pageLength: 100, lengthMenu: [25, 100, 500],
      info: rows.length > 100, searching: rows.length > 10, autoWidth: false, deferRender: true,
      layout: { topStart: null, topEnd: rows.length > 10 ? "search" : null },
      language: { search: "", searchPlaceholder: "lines that contain …", emptyTable: "nothing fits the filters" },
      columns: columns.map((column, number) => ({
        visible: visible[number],
        type: column.words ? "string" : "num",
        className: column.words ? "words" : "number",
        data: row => column.value(row) ?? null,
        render(value, type, row) {
          if (type === "sort" || type === "type") return value ?? (column.words ? "" : -Infinity);
          const text = column.show ? column.show(row) : column.words ? value : format.number(value);
          return type === "display" ? escaped(text ?? "") : String(text ?? "");
        },
        createdCell(td, value, row) {
          const looks = column.looks?.(row);
          if (looks) td.classList.add(...looks);
        },
      })),
      createdRow(tr, row) { options.row?.(tr, row); },
    });
    place.table.on("order.dt", () => {
      const [first] = place.table.order();
      if (first) memory.order = [columns[first[0]].title, first[1]];
    });
  }

  function chooser(columns, visible, memory, column) {
    const boxes = columns.map((one, number) => {
      const box = element("input", { type: "checkbox" });
      box.checked = visible[number];
      box.addEventListener("change", () => {
        memory.visible[one.title] = box.checked;
        column(number).visible(box.checked);
      });
      return element("label", {}, box, one.title);
    });
    return element("details", { class: "menu columns" }, element("summary", {}, "columns"), element("div", { class: "choices" }, boxes));
  }

  const model = { title: "model", words: true, value: row => row.at.model };
  const task = { title: "task", words: true, value: row => row.at.setting ? `${row.at.task}, ${row.at.setting}` : row.at.task };
  const method = { title: "method", words: true, value: row => row.label };
  // budgets sort by what they remove
  const budget = { title: "budget", value: row => row.share ?? 0, show: row => row.method === "vanilla" ? "" : row.budget };
  const mode = { title: "mode", words: true, value: row => row.method === "vanilla" ? "" : explorer.FILTERS.mode(row), hidden: new Set(explorer.lines.filter(row => row.method !== "vanilla").map(explorer.FILTERS.mode)).size < 2 };

  // what everything is compared to stands above it
  const vanillaFirst = rows => rows.sort((a, b) => a.at.condition - b.at.condition || a.place - b.place || (b.method === "vanilla") - (a.method === "vanilla") || a.index - b.index);

  function scores() {
    const rows = explorer.shown(), value = document.getElementById("value").value;
    const columnOf = row => task.value(row);
    const tasks = [...new Set(rows.map(columnOf))];
    const byAbility = tasks.length === 1 && !explorer.chosen("seed").size;
    const groups = new Map();
    const groupOf = row => [row.at.condition, row.label, row.budget, row.budget_mode, row.budget_scope, explorer.chosen("seed").size ? row.seed : ""].join("\n");
    for (const row of rows) {
      const key = groupOf(row);
      if (!groups.has(key)) groups.set(key, { ...row, scores: {}, parts: {} });
      groups.get(key).scores[columnOf(row)] = row;
    }
    const parts = new Set();
    if (byAbility) for (const row of explorer.abilities) {
      const group = groups.get(groupOf(row));
      if (group?.scores[columnOf(row)]) { group.parts[row.ability] = row; parts.add(row.ability); }
    }
    const ofConditions = new Map(); // tasks of each model: a mean covers them all or is left out
    for (const row of rows) (ofConditions.get(row.at.condition) ?? ofConditions.set(row.at.condition, new Set()).get(row.at.condition)).add(columnOf(row));
    const shown = row => {
      if (!row) return "";
      const interval = document.getElementById("intervals").checked && value === "score_100" ? format.span(row.low, row.high) : "";
      const spread = row.seeds > 1 && row.std !== null && row.std !== undefined ? ` ± ${format.number(row.std)}` : "";
      return format.number(row[value]) + (interval ? ` (${interval})` : spread);
    };
    const looks = row => row ? [row.mark, row.against && !row.beaten ? "uncertain" : ""].filter(Boolean) : [];
    const column = (title, pick) => ({ title, value: group => pick(group)?.[value], show: group => shown(pick(group)), looks: group => looks(pick(group)) });
    const mean = group => {
      const wanted = [...ofConditions.get(group.at.condition)], found = wanted.map(name => group.scores[name]?.retention_pct);
      return found.some(one => one === null || one === undefined) ? null : found.reduce((a, b) => a + b, 0) / found.length;
    };
    const columns = [model, method, budget, mode];
    if (explorer.chosen("seed").size) columns.push({ title: "seed", value: group => group.seed[0], show: group => String(group.seed[0]) });
    for (const name of tasks) columns.push(column(name, group => group.scores[name]));
    for (const name of parts) columns.push(column(name.replaceAll("_", " "), group => group.parts[name]));
    columns.push({ title: "of vanilla %", value: mean, note: "mean over the tasks shown; blank where one is missing" });
    if (tasks.length === 1) {
      const only = group => group.scores[tasks[0]];
      columns.push(
        { title: "over best control", value: group => only(group)?.gain, show: group => format.signed(only(group)?.gain), note: "points more than the best control at its budget" },
        { title: "its 95 %", words: true, value: group => format.span(only(group)?.gain_low, only(group)?.gain_high, true) },
        { title: "control", words: true, value: group => only(group)?.against ?? "", hidden: true },
        { title: "n", value: group => only(group)?.n, show: group => String(only(group)?.n ?? ""), hidden: true },
      );
    }
    draw(document.getElementById("score-table"), columns, vanillaFirst([...groups.values()]));
  }

  // the best method of each budget, with the best control beside it
  function best() {
    const groups = new Map();
    for (const row of explorer.shown()) {
      if (row.method === "vanilla") continue;
      const key = [row.at.condition, row.budget, row.budget_mode, row.budget_scope].join("\n");
      if (!groups.has(key)) groups.set(key, { at: row.at, budget: row.budget, share: row.share, budget_mode: row.budget_mode, budget_scope: row.budget_scope, tasks: new Set(), methods: new Map() });
      const group = groups.get(key);
      group.tasks.add(row.at.title);
      const name = row.label + (explorer.chosen("seed").size ? ` seed ${row.seed}` : "");
      if (!group.methods.has(name)) group.methods.set(name, []);
      group.methods.get(name).push(row);
    }
    const found = [];
    for (const group of groups.values()) {
      const whole = [...group.methods].filter(([, rows]) => rows.length === group.tasks.size && rows.every(row => row.retention_pct !== null))
        .map(([name, rows]) => ({ name, rows, control: rows[0].control, mean: rows.reduce((sum, row) => sum + row.retention_pct, 0) / rows.length }))
        .sort((a, b) => b.mean - a.mean);
      group.best = whole.find(one => !one.control);
      group.control = whole.find(one => one.control);
      if (group.best || group.control) found.push(group);
    }
    const beaten = group => group.best?.rows.filter(row => row.beaten).length;
    const single = group => group.best?.rows.length === 1 ? group.best.rows[0] : null;
    draw(document.getElementById("best"), [
      model, budget, mode,
      { title: "tasks", value: group => group.tasks.size, show: group => String(group.tasks.size) },
      { title: "best method", words: true, value: group => group.best?.name ?? "none complete" },
      { title: "of vanilla %", value: group => group.best?.mean },
      { title: "best control", words: true, value: group => group.control?.name ?? "not run" },
      { title: "its % of vanilla", value: group => group.control?.mean },
      { title: "over control", value: group => single(group)?.gain, show: group => single(group) ? format.signed(single(group).gain) + (single(group).gain_low !== null ? ` (${format.span(single(group).gain_low, single(group).gain_high, true)})` : "") : "", note: "points, with the paired 95 % interval" },
      { title: "beats it on", words: true, value: group => group.best ? `${beaten(group)} of ${group.best.rows.filter(row => row.against).length}` : "", note: "tasks on which it is better beyond doubt" },
    ], found);
  }

  const cost = (title, name, digits) => ({ title, value: row => row[name], show: row => format.number(row[name], digits) });
  function cells() {
    const rows = vanillaFirst(explorer.cells.filter(row => explorer.passes(row)));
    draw(document.getElementById("cell-table"), [
      model, task, method, budget, mode,
      { title: "seed", value: row => row.seed[0], show: row => String(row.seed[0]) },
      { title: "n", value: row => row.n, show: row => String(row.n) },
      { title: "score", value: row => row.score_100 },
      { title: "95 %", words: true, value: row => format.span(row.low, row.high) },
      { title: "drop %", value: row => row.drop_pct },
      cost("kept", "kept_mean", 1), cost("prefill ms", "prefill_ms", 2), cost("method ms", "method_ms", 2), cost("total s", "total_s", 2),
      { ...cost("vision ms", "vision_ms", 2), hidden: true }, { ...cost("TFLOP", "tflops", 2), hidden: true },
      { ...cost("tokens a layer reads", "equiv_tokens", 1), hidden: true }, { ...cost("KV cache MiB", "kv_mib", 2), hidden: true },
      { ...cost("peak MiB", "peak_mib", 1), hidden: true }, { title: "device", words: true, value: row => row.device ?? "", hidden: true },
      { title: "cell", words: true, value: row => row.key[0], looks: () => ["key"] },
    ], rows, {
      row(tr, row) {
        tr.tabIndex = 0;
        tr.setAttribute("aria-label", `cell ${row.key[0]}: configuration and environment`);
        tr.addEventListener("click", () => explorer.set("cell", row.key[0], "cell"));
        tr.addEventListener("keydown", event => { if (event.key === "Enter") explorer.set("cell", row.key[0], "cell"); });
      },
    });
  }

  async function cell() {
    const dialog = document.getElementById("cell"), key = explorer.settings.cell;
    const row = explorer.cells.find(one => one.key[0] === key);
    if (!row) return;
    const body = dialog.querySelector("div");
    body.replaceChildren(element("h3", {}, `${row.at.model} ${row.label} ${row.method === "vanilla" ? "" : row.budget} ${row.at.task}`), element("p", {}, `cell ${key}`));
    if (!dialog.open) dialog.showModal();
    if (!row.detail) { body.append(element("p", {}, "This page has too many cells to hold the details of this one; its folder has them.")); return; }
    try {
      const told = await explorer.load(`cell${row.detail[0]}`);
      if (explorer.settings.cell !== key) return;
      body.append(element("p", {}, `Samples: ${told.folder}/samples.jsonl`));
      if (told.videos) body.append(element("p", {}, `Videos: ${told.videos}`));
      body.append(element("h4", {}, "Configuration"), element("pre", {}, told.config), element("h4", {}, "Environment"), element("pre", {}, told.environment));
    } catch (error) { body.append(element("p", {}, error.message)); }
  }

  return { draw, scores, best, cells, cell, model, task, method, budget, mode };
})();
