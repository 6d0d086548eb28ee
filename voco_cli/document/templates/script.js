"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Light or dark: the system's choice until the button is used, then what was chosen last.
  const themeButton = document.getElementById("theme");
  const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
  const nameTheme = () => { themeButton.textContent = isDark() ? "Light" : "Dark"; };
  try {
    const kept = localStorage.getItem("voco-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* a browser may forbid storage to files; then nothing is remembered */ }
  nameTheme();
  themeButton.hidden = false;
  themeButton.setAttribute("aria-label", "Switch between light and dark colours");
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("voco-theme", root.dataset.theme); } catch { /* as above */ }
    nameTheme();
  });
  systemDark.addEventListener("change", nameTheme);

  // Tables: numbers as numbers, words as words, what is empty last; equal rows keep their order.
  const isEmpty = (cell) => cell.dataset.order === undefined && ["", "-", "\u2013"].includes(cell.textContent.trim());
  const compareCells = (a, b) => {
    if (a.dataset.order !== undefined && b.dataset.order !== undefined) return a.dataset.order - b.dataset.order;
    return a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  };
  const sortTable = (heading) => {
    const column = heading.cellIndex;
    const body = heading.closest("table").tBodies[0];
    const falling = heading.getAttribute("aria-sort") === "ascending";
    const sign = falling ? -1 : 1;
    const rows = [...body.rows].map((row) => ({ row, cell: row.cells[column] }));
    rows.sort((a, b) => {
      const empty = isEmpty(a.cell) - isEmpty(b.cell);
      return empty || (isEmpty(a.cell) ? 0 : sign * compareCells(a.cell, b.cell));
    });
    body.append(...rows.map((one) => one.row));
    for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  };
  for (const button of all("button.sort")) button.addEventListener("click", () => sortTable(button.closest("th")));

  for (const field of all("[data-search]")) {
    const table = field.closest("[data-table]");
    const rows = all("tbody tr", table);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        found += !row.hidden;
      }
      table.querySelector("[data-found]").textContent = words.length ? `${found} of ${rows.length}` : "";
    });
  }

  // A box that need not be scrolled is no stop for the keyboard.
  const boxes = all(".scroll");
  const markScrolled = () => {
    for (const box of boxes) {
      const scrolled = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
      box.tabIndex = scrolled ? 0 : -1;
    }
  };
  window.addEventListener("resize", markScrolled);
  for (const fold of all("details")) fold.addEventListener("toggle", markScrolled);
  markScrolled();

  // Viewers: one frame of several, and layers to hide.
  for (const viewer of all("[data-viewer]")) {
    const frames = all("[data-frame]", viewer);
    const slider = viewer.querySelector("[data-slider]");
    const words = viewer.querySelector("[data-words]");
    for (const control of all("[data-controls]", viewer)) control.hidden = false;
    const show = () => {
      const chosen = Number(slider.value);
      frames.forEach((frame, number) => { frame.hidden = number !== chosen; });
      words.textContent = frames[chosen].dataset.frame;
      slider.setAttribute("aria-valuetext", frames[chosen].dataset.frame);
    };
    slider.addEventListener("input", show);
    show();
    for (const box of all("[data-layer]", viewer)) {
      const set = () => viewer.classList.toggle(`without-${box.dataset.layer}`, !box.checked);
      box.addEventListener("change", set);
      set();
    }
  }

  // Charts: the values at a step, under the pointer or by the arrow keys, in the legend.
  const svgElement = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const nearest = (sorted, wanted) => {
    let best = 0;
    sorted.forEach((value, number) => { if (Math.abs(value - wanted) < Math.abs(sorted[best] - wanted)) best = number; });
    return best;
  };
  for (const chart of all("[data-chart]")) {
    const reader = chart.querySelector("[data-readings]");
    const drawing = chart.querySelector(".plot svg");
    const cursor = chart.querySelector("[data-cursor]");
    const stepWords = chart.querySelector("[data-step]");
    const values = all("[data-value]", chart);
    const held = JSON.parse(reader.dataset.readings);
    const last = held.steps.length - 1;
    // A line that has no value at a step is read at the nearest one that it has.
    const reachable = held.lines.map((line) => held.steps.map((_, n) => n).filter((n) => line.values[n] !== null));
    const { width, height } = drawing.viewBox.baseVal;
    let chosen = last;
    const read = (number, marked) => {
      chosen = Math.min(Math.max(number, 0), last);
      const step = held.steps[chosen].toLocaleString("en");
      stepWords.textContent = `step ${step}`;
      const places = held.lines.map((_, n) => reachable[n][nearest(reachable[n].map((i) => held.x[i]), held.x[chosen])]);
      held.lines.forEach((line, n) => { values[n].textContent = line.values[places[n]]; });
      const spoken = held.lines.map((line, n) => `${line.name} ${line.values[places[n]]}`).join(", ");
      reader.setAttribute("aria-valuenow", chosen);
      reader.setAttribute("aria-valuetext", `step ${step}: ${spoken}`);
      cursor.replaceChildren();
      if (!marked) return;
      const x = held.x[chosen];
      cursor.append(svgElement("line", { x1: x, x2: x, y1: 10, y2: height - 28 }));
      held.lines.forEach((line, n) => {
        const circle = { class: `dot-${line.number}`, cx: held.x[places[n]], cy: line.y[places[n]], r: 4 };
        cursor.append(svgElement("circle", circle));
      });
    };
    reader.tabIndex = 0;
    reader.setAttribute("role", "slider");
    reader.setAttribute("aria-label", `${reader.dataset.label}: values by step`);
    reader.setAttribute("aria-valuemin", 0);
    reader.setAttribute("aria-valuemax", last);
    reader.addEventListener("pointermove", (event) => {
      const box = reader.getBoundingClientRect();
      read(nearest(held.x, ((event.clientX - box.left) / box.width) * width), true);
    });
    reader.addEventListener("pointerleave", () => read(last, false));
    reader.addEventListener("focus", () => { if (reader.matches(":focus-visible")) read(chosen, true); });
    reader.addEventListener("blur", () => read(last, false));
    reader.addEventListener("keydown", (event) => {
      const far = Math.max(1, Math.round(last / 10));
      const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -far, PageUp: far };
      const jumps = { Home: 0, End: last };
      if (event.key in moves) read(chosen + moves[event.key], true);
      else if (event.key in jumps) read(jumps[event.key], true);
      else return;
      event.preventDefault();
    });
    read(last, false);
  }

  // The contents name the part that is being read.
  const links = new Map(all(".contents a").map((link) => [link.getAttribute("href").slice(1), link]));
  if ("IntersectionObserver" in window) {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    }, { rootMargin: "0px 0px -75% 0px" });
    for (const heading of all("h1[id], h2[id], h3[id]")) if (links.has(heading.id)) seen.observe(heading);
  }
})();
