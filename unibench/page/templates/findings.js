"use strict";
// Tests of pairs, and what is worth using within a limit of the drop.
const findings = (() => {
  const { element } = explorer, { lines, data } = explorer;
  const UNITS = { prefill_ms: "ms", equiv_tokens: "tokens", tflops: "TFLOP" };

  const pairs = data.pairs.map(([first, second, n, difference, low, high, p, p_holm, test, won, lost]) => ({
    first: lines[first], second: lines[second], at: lines[second].at, n, difference, low, high, p, p_holm, test, won, lost,
    method: lines[second].method, budget: lines[second].budget, share: lines[second].share, budget_mode: lines[second].budget_mode, budget_scope: lines[second].budget_scope,
  }));

  function compare() {
    const [one, two] = [document.getElementById("first").value, document.getElementById("second").value];
    const rows = [];
    for (const pair of pairs) {
      if (!explorer.passes(pair.first) || !explorer.passes(pair.second)) continue;
      const forward = (!one || pair.first.label === one) && (!two || pair.second.label === two);
      const backward = (one || two) && (!one || pair.second.label === one) && (!two || pair.first.label === two);
      if (forward) rows.push(pair);
      else if (backward) rows.push({ ...pair, first: pair.second, second: pair.first, difference: -pair.difference, low: -pair.high, high: -pair.low, won: pair.lost, lost: pair.won });
    }
    const whole = value => ({ value, show: row => String(value(row)) });
    tables.draw(document.getElementById("pair-table"), [
      tables.model, tables.task, tables.budget, tables.mode,
      { title: "first", words: true, value: row => row.first.label }, { title: "second", words: true, value: row => row.second.label },
      { title: "difference", value: row => row.difference, show: row => format.signed(row.difference), looks: row => row.low > 0 ? ["better"] : row.high < 0 ? ["worse"] : [] },
      { title: "95 %", words: true, value: row => format.span(row.low, row.high, true) },
      { title: "won", ...whole(row => row.won) }, { title: "lost", ...whole(row => row.lost) },
      { title: "p", value: row => row.p, show: row => format.p(row.p) }, { title: "p, Holm", value: row => row.p_holm, show: row => format.p(row.p_holm) },
      { title: "test", words: true, value: row => row.test, hidden: true }, { title: "n", ...whole(row => row.n), hidden: true },
    ], rows);
  }

  function recommend() {
    const place = document.getElementById("fronts"), metric = document.getElementById("metric").value, limit = Number(document.getElementById("max-drop").value);
    const models = explorer.chosen("model"), parts = [];
    for (const one of data.recommend.filter(one => one.metric === metric)) {
      if (one.error) { parts.push(element("p", {}, one.error), command(metric, limit)); continue; }
      if (models.size && !models.has(one.model)) continue;
      const inside = one.front.filter(candidate => candidate.drop[0] <= limit);
      parts.push(element("h3", {}, one.model), element("p", { class: "note" }, `${one.device}; vanilla: ${format.number(one.vanilla[0], 2)} ${UNITS[metric]}; ${one.tried} tried${one.controlled ? "" : "; no control was run"}`));
      if (!inside.length) {
        const nearest = [...one.front].sort((a, b) => a.drop[0] - b.drop[0])[0];
        parts.push(element("p", {}, `Nothing drops ${limit} % or less.${nearest ? ` Nearest: ${nearest.name} ${nearest.budget}, ${format.number(nearest.drop[0])} %.` : ""}`));
        continue;
      }
      const body = inside.map(candidate => element("tr", {}, [
        candidate.name, candidate.budget, `${format.number(candidate.drop[0])} (${format.span(candidate.drop[1], candidate.drop[2])})`,
        `${format.number(candidate.cost[0], 2)} (${format.number(candidate.cost[1], 2)} to ${format.number(candidate.cost[2], 2)})`,
        candidate.drop[2] <= limit ? "yes" : "no", candidate.control ? "is a control" : candidate.rival ? `no better than ${candidate.rival}` : one.controlled ? "beats the controls" : "",
      ].map(text => element("td", {}, text))));
      const heads = ["method", "budget", "drop %", `${metric}, ${UNITS[metric]}`, "sure", "control"].map(text => element("th", { scope: "col" }, text));
      parts.push(element("div", { class: "scroll" }, element("table", { class: "data" }, element("thead", {}, element("tr", {}, heads)), element("tbody", {}, body))));
      if (one.incomplete.length) parts.push(element("p", { class: "note" }, `Not run on all tasks, and left out: ${one.incomplete.join(", ")}`));
    }
    place.replaceChildren(...parts, command(metric, limit));
  }
  const command = (metric, limit) => element("p", { class: "note" }, "The same with code to use it: ", element("code", {}, `python -m unibench recommend --max-drop ${limit} --metric ${metric} out=${data.summary.out || "outputs"}`));

  function start() {
    const labels = ["", ...new Set(pairs.flatMap(pair => [pair.first.label, pair.second.label]))];
    for (const id of ["first", "second"]) {
      const select = document.getElementById(id);
      for (const label of labels) select.append(element("option", { value: label }, label || "any"));
      select.value = explorer.settings[id] ?? "";
      select.addEventListener("change", () => explorer.set(id, select.value, "compare"));
    }
    const more = document.getElementById("more-pairs");
    more.hidden = !data.more_pairs;
    more.querySelector("code").textContent = `python -m unibench compare A B out=${data.summary.out || "outputs"}`;
    const metric = document.getElementById("metric"), drop = document.getElementById("max-drop");
    for (const name of new Set(data.recommend.map(one => one.metric))) metric.append(element("option", { value: name }, name));
    const works = data.recommend.find(one => !one.error);
    metric.value = explorer.settings.metric ?? works?.metric ?? metric.options[0]?.value;
    drop.value = explorer.settings.drop ?? "2";
    metric.addEventListener("change", () => explorer.set("metric", metric.value, "recommend"));
    drop.addEventListener("input", () => explorer.set("drop", drop.value, "recommend"));
  }
  return { start, compare, recommend };
})();
