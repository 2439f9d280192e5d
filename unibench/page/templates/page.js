"use strict";
// a cell may carry notes (superscript letters) and a spread behind its number
function value(cell) {
  const shown = cell.cloneNode(true);
  for (const note of shown.querySelectorAll("sup")) note.remove();
  const text = shown.textContent.trim(), number = text.match(/^-?\d+(\.\d+)?(e[-+]?\d+)?(?![\w.])/);
  return number ? Number(number[0]) : text;
}
function compare(a, b, sign) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // what has no number stands last
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
}
function sort(head, table) {
  const column = head.cellIndex, down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter(row => !row.classList.contains("block"));
    rows.sort((a, b) => compare(value(a.cells[column]), value(b.cells[column]), down ? -1 : 1));
    body.append(...rows);
  }
}
for (const table of document.querySelectorAll("table.unibench")) {
  for (const head of table.tHead.rows[0].cells) {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(head, table));
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(head, table); });
  }
  for (const cell of table.querySelectorAll("tbody td")) if (typeof value(cell) === "number") cell.classList.add("number");
}
for (const input of document.querySelectorAll("input.filter")) {
  const table = input.nextElementSibling.querySelector("table");
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of table.querySelectorAll("tbody tr:not(.block)")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
function reveal() {
  const place = document.getElementById(location.hash.slice(1));
  if (place?.tagName === "DETAILS") place.open = true;
}
addEventListener("hashchange", reveal);
reveal();
