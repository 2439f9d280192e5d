"use strict";
// Asks for the state of the grid again and again. All of it is shown as text.
const place = id => document.getElementById(id);
function element(tag, ...children) { const found = document.createElement(tag); found.append(...children); return found; }
function clock(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  const minutes = Math.round(seconds / 60);
  return seconds < 60 ? `${Math.round(seconds)}s` : minutes < 60 ? `${minutes}m` : `${Math.floor(minutes / 60)}h ${String(minutes % 60).padStart(2, "0")}m`;
}
const minute = rate => rate === null || rate === undefined ? "?" : (60 * rate).toFixed(1);
function show(state) {
  const known = state.total !== null && state.total > 0;
  place("out").textContent = state.out;
  if (known) place("bar").value = state.answered / state.total; else place("bar").removeAttribute("value");
  place("said").textContent = `${state.answered.toLocaleString("en")}${known ? ` of ${state.total.toLocaleString("en")}` : ""} samples, ${minute(state.rate)} a minute, time left ${clock(state.left)}`;
  place("states").replaceChildren(...Object.entries(state.states).map(([name, count]) => { const item = element("li", `${count} ${name}`); item.className = name; return item; }));
  place("workers").replaceChildren(...state.workers.map(one => element("tr", ...[one.name, one.cells.join("; "), `${one.answered}/${one.total ?? "?"}`, minute(one.rate), clock(one.left)].map(text => element("td", text)))));
  if (!state.workers.length) { const cell = element("td", "nobody works on these cells now"); cell.colSpan = 5; place("workers").append(element("tr", cell)); }
  const failures = state.failures.map(([title, reason]) => element("li", element("b", title), `: ${reason}`));
  if (state.more_failures) failures.push(element("li", `and ${state.more_failures} more`));
  place("failures").replaceChildren(...(failures.length ? failures : [element("li", "none")]));
}
async function look() {
  try {
    const answer = await fetch("state.json", { cache: "no-store" });
    show(await answer.json());
    document.documentElement.dataset.state = "live";
  } catch {
    document.documentElement.dataset.state = "lost";
    place("said").textContent = "the server does not answer any more: it was stopped, or its machine is busy";
  }
  setTimeout(look, 2000);
}
look();
