"use strict";

// Tables: a click (or Enter, Space) on a head sorts by it, best first; empty cells stay at the end.
function sortTable(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const first = head.dataset.direction === "higher" ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const [p, q] = [number(x), number(y)];
    const difference = Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y) : p === q ? 0 : p < q ? -1 : 1;
    return sign * difference;
  };
  const body = table.tBodies[0];
  [...body.rows].sort(compare).forEach((row) => body.append(row));
}

function number(text) {
  return text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text);
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead button").forEach((button, column) =>
    button.addEventListener("click", () => sortTable(table, column)));
}

// On narrow screens tables are shown as blocks: cells need labels there, and all parts the roles that a table gives them.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent.trim());
  for (const row of table.tBodies[0]?.rows ?? []) [...row.cells].forEach((cell, i) => { cell.dataset.label = heads[i]; });
}
const ROLES = {TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell"};
for (const part of document.querySelectorAll("table, thead, tbody, tr, td, th")) {
  part.setAttribute("role", ROLES[part.tagName] ?? (part.scope === "row" ? "rowheader" : "columnheader"));
}

// The player: two strips of frames over each other; a line divides them, a slider moves both through time.
const player = document.querySelector(".viewer");
if (player) setUp(player, JSON.parse(document.getElementById("viewer-data").textContent));

function setUp(figure, clips) {
  const find = (selector) => figure.querySelector(selector);
  const stage = find(".stage"), split = find(".split"), scrub = find(".scrub"), play = find(".play");
  let clip = clips[0];

  function showSplit() {
    find(".layer.right").style.clipPath = `inset(0 0 0 ${split.value}%)`;
    find(".divider").style.left = `${split.value}%`;
  }
  function showFrame() {
    const offset = (-100 * Number(scrub.value)) / clip.frames.length;
    figure.querySelectorAll(".layer img").forEach((image) => { image.style.transform = `translateY(${offset}%)`; });
    const name = clip.frames[Number(scrub.value)];
    find("output").textContent = name;
    scrub.setAttribute("aria-valuetext", `frame ${name}`);
  }
  function choose(side) {
    const label = find(`.choose-${side}`).value, image = find(`.layer.${side} img`);
    image.src = clip.strips[label];
    image.alt = `Clip ${clip.clip} by ${label}`;
    find(`.layer.${side} .tag`).textContent = label;
  }
  // Another clip keeps the chosen methods where it has them.
  function showClip() {
    clip = clips[Number(find(".choose-clip").value)];
    for (const side of ["left", "right"]) {
      const chooser = find(`.choose-${side}`), before = chooser.value;
      chooser.replaceChildren(...Object.keys(clip.strips).map((label) => new Option(label)));
      chooser.value = before in clip.strips ? before : clip[side];
      choose(side);
    }
    stage.style.aspectRatio = `${clip.width} / ${clip.height}`;
    stage.style.setProperty("--ratio", clip.width / clip.height);
    scrub.max = String(clip.frames.length - 1);
    showFrame();
  }
  function drag(event) {
    const box = stage.getBoundingClientRect();
    split.value = String(Math.round((100 * (event.clientX - box.left)) / box.width));
    showSplit();
  }

  split.addEventListener("input", showSplit);
  scrub.addEventListener("input", showFrame);
  find(".choose-clip").addEventListener("change", showClip);
  for (const side of ["left", "right"]) find(`.choose-${side}`).addEventListener("change", () => choose(side));
  stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
  stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) drag(event); });

  let timer = null;
  play.addEventListener("click", () => {
    if (timer === null) {
      timer = setInterval(() => { scrub.value = String((Number(scrub.value) + 1) % clip.frames.length); showFrame(); }, 125);
    } else {
      clearInterval(timer);
      timer = null;
    }
    play.textContent = timer === null ? "Play" : "Pause";
    play.setAttribute("aria-pressed", String(timer !== null));
  });
  showClip();
  showSplit();
}
