"use strict";
// Everything is in the table: the script hides lines, sorts them, and draws the front of those that are left.
const table = document.getElementById("board");
const body = table.tBodies[0];
const lines = [...body.rows];
const selects = [...document.querySelectorAll(".filters select")];
const checks = [...document.querySelectorAll(".filters input[type=checkbox][data-trait]")];
const words = document.querySelector(".filters input[type=search]");
const references = document.getElementById("references");

function shows(line) {
  const traits = line.dataset.traits.split(" ");
  const chosen = selects.every((one) => !one.value || line.dataset[one.dataset.column] === one.value);
  const able = line.dataset.kind !== "method" || checks.every((one) => !one.checked || traits.includes(one.dataset.trait));
  const said = line.cells[0].textContent.toLowerCase().includes(words.value.trim().toLowerCase());
  const kind = line.dataset.kind === "method" || references.checked;
  return chosen && able && said && kind;
}

function update() {
  let count = 0;
  for (const line of lines) {
    line.hidden = !shows(line);
    count += !line.hidden && line.dataset.kind === "method";
  }
  document.getElementById("count").textContent = `${count} result${count === 1 ? "" : "s"} of methods`;
  draw();
}

function sort(head) {
  const place = [...head.parentNode.children].indexOf(head);
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = (line) => line.cells[place].dataset.value ?? line.cells[place].textContent.trim();
  const number = head.classList.contains("number");
  lines.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");  // what is not known stands last
    const order = number ? Number(x) - Number(y) : x.localeCompare(y);
    return up ? order : -order;
  });
  body.append(...lines);
}

function node(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Accuracy against measured time, for one model, task and device: others are not comparable.
function draw() {
  const place = document.getElementById("pareto");
  const said = document.getElementById("pareto-said");
  place.replaceChildren();
  const seen = lines.filter((line) => !line.hidden && line.dataset.time !== "" && line.dataset.kind !== "control");
  for (const line of lines) line.classList.remove("front");
  const settings = new Set(seen.map((line) => [line.dataset.model, line.dataset.task, line.dataset.device].join(" · ")));
  if (settings.size !== 1) {
    said.textContent = settings.size ? "Choose one model, one task and one device: times and scores of several are not comparable." : "No measured time in the lines that are shown.";
    place.hidden = true;
    return;
  }
  place.hidden = false;
  said.textContent = `${[...settings][0]}: score in per cent against the prefill in ms; green lines of the table are on the front.`;
  const points = seen.map((line) => ({ line, x: Number(line.dataset.time), y: Number(line.dataset.score) }));
  points.sort((a, b) => a.x - b.x || b.y - a.y);
  const front = [];
  for (const point of points) if (!front.length || point.y > front[front.length - 1].y) front.push(point);
  for (const point of front) point.line.classList.add("front");
  const [width, height, left, bottom, right, top] = [640, 340, 48, 36, 90, 14];
  const span = (values, least) => { const [low, high] = [Math.min(...values), Math.max(...values)]; const pad = Math.max((high - low) * 0.08, least); return [low - pad, high + pad]; };
  // a few points that lie together must not look apart
  const [x0, x1] = span(points.map((point) => point.x), Math.max(...points.map((point) => point.x)) * 0.05);
  const [y0, y1] = span(points.map((point) => point.y), 5);
  const px = (x) => left + (x - x0) / (x1 - x0) * (width - left - right);
  const py = (y) => height - bottom - (y - y0) / (y1 - y0) * (height - bottom - top);
  for (let step = 0; step <= 4; step++) {
    const [x, y] = [x0 + (x1 - x0) * step / 4, y0 + (y1 - y0) * step / 4];
    place.append(node("line", { x1: left, x2: width - right, y1: py(y), y2: py(y), stroke: "#e5e8eb" }));
    place.append(node("text", { x: left - 6, y: py(y) + 4, "text-anchor": "end" }, y.toFixed(0)));
    place.append(node("text", { x: px(x), y: height - bottom + 16, "text-anchor": "middle" }, x.toFixed(1)));
  }
  place.append(node("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "prefill, ms"));
  place.append(node("polyline", { points: front.map((point) => `${px(point.x)},${py(point.y)}`).join(" "), fill: "none", stroke: "#1a7f37", "stroke-width": 2 }));
  const named = [];
  for (const { line, x, y } of points) {
    const method = line.dataset.kind === "method";
    const dot = node("circle", { cx: px(x), cy: py(y), r: 5, fill: method ? "#0757b8" : "#9aa4ae" });
    dot.append(node("title", {}, `${line.dataset.name} ${line.dataset.budget}: ${y.toFixed(1)} %, ${x.toFixed(1)} ms`));
    place.append(dot);
    const late = px(x) > width - right - 130;  // a long name would leave the picture
    // names of points close to each other stand below one another
    let low = py(y) + 4;
    while (named.some((one) => Math.abs(one.x - px(x)) < 140 && Math.abs(one.y - low) < 13)) low += 13;
    named.push({ x: px(x), y: low });
    place.append(node("text", { x: px(x) + (late ? -8 : 8), y: low, "text-anchor": late ? "end" : "start" }, `${line.dataset.name} ${line.dataset.budget}`));
  }
}

for (const one of [...selects, ...checks, references]) one.addEventListener("change", update);
words.addEventListener("input", update);
for (const head of table.querySelectorAll("th[data-sort]")) {
  head.tabIndex = 0;
  head.addEventListener("click", () => sort(head));
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(head); });
}
update();
