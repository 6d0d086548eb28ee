"use strict";
const crops = [...document.querySelectorAll(".stored")];
const answers = new Map();
const find = (id) => document.getElementById(id);
let at = 0;

function show() {
  const token = crops[at].dataset.crop;
  find("crop").src = crops[at].src;
  find("place").textContent = `Picture ${at + 1} of ${crops.length}; ${answers.size} answered.`;
  for (const word of ["real", "painted"]) {
    find(word).setAttribute("aria-pressed", String(answers.get(token) === word));
  }
}

function go(step) {
  at = Math.min(Math.max(at + step, 0), crops.length - 1);
  show();
}

function answer(word) {
  answers.set(crops[at].dataset.crop, word);
  go(1);
}

function save() {
  const rows = ["crop,answer", ...crops.map((one) => `${one.dataset.crop},${answers.get(one.dataset.crop) ?? ""}`)];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([rows.join("\n") + "\n"], { type: "text/csv" }));
  link.download = "answers.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

find("real").addEventListener("click", () => answer("real"));
find("painted").addEventListener("click", () => answer("painted"));
find("back").addEventListener("click", () => go(-1));
find("next").addEventListener("click", () => go(1));
find("save").addEventListener("click", save);
document.addEventListener("keydown", (event) => {
  const act = { r: () => answer("real"), p: () => answer("painted"), ArrowLeft: () => go(-1), ArrowRight: () => go(1) };
  if (!event.ctrlKey && !event.metaKey && act[event.key]) act[event.key]();
});
window.addEventListener("beforeunload", (event) => { if (answers.size) event.preventDefault(); });
show();
