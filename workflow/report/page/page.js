"use strict";
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

// Sections are tabs; a link to a lineage opens it.
const tabs = all("nav a");
const panels = tabs.map((tab) => document.querySelector(tab.hash));
function show(selected) {
  tabs.forEach((tab, index) => {
    tab.setAttribute("aria-selected", tab === selected);
    tab.tabIndex = tab === selected ? 0 : -1;
    panels[index].hidden = tab !== selected;
  });
}
function follow() {
  const target = document.getElementById(location.hash.slice(1));
  const index = panels.findIndex((panel) => panel.contains(target));
  show(tabs[Math.max(0, index)]);
  if (target && target.tagName === "DETAILS") {
    target.classList.remove("filtered");
    target.open = true;
    target.querySelector("summary").focus();
    target.scrollIntoView();
  } else if (target) {
    scrollTo(0, 0);
  }
}
document.querySelector("nav").setAttribute("role", "tablist");
tabs.forEach((tab, index) => {
  tab.id = "tab-" + panels[index].id;
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", panels[index].id);
  panels[index].setAttribute("role", "tabpanel");
  panels[index].setAttribute("aria-labelledby", tab.id);
  const select = (other) => {
    history.pushState(null, "", other.hash);
    show(other);
    other.focus();
  };
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    select(tab);
  });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) select(tabs[(index + step + tabs.length) % tabs.length]);
    if (event.key === " ") {
      event.preventDefault();
      select(tab);
    }
  });
});
addEventListener("hashchange", follow);
addEventListener("popstate", follow);
addEventListener("load", follow); // after the browser's own scrolling
follow();

// Tables: the first click sorts numbers descending and texts ascending; missing values stay last.
function sort(head) {
  const rows = [...head.closest("table").tBodies[0].rows];
  const text = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
  const numeric = rows.some((row) => !Number.isNaN(parseFloat(text(row))));
  const before = head.getAttribute("aria-sort");
  const after = before === "none" ? (numeric ? "descending" : "ascending") : before === "descending" ? "ascending" : "descending";
  const sign = after === "ascending" ? 1 : -1;
  rows.sort((one, other) => {
    if (!numeric) return sign * text(one).localeCompare(text(other));
    const [left, right] = [one, other].map((row) => parseFloat(text(row)));
    if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right);
    return sign * (left - right);
  });
  all("th[aria-sort]", head.parentNode).forEach((th) => th.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", after);
  head.closest("table").tBodies[0].append(...rows);
}
all(".sortable thead button").forEach((button) => {
  button.addEventListener("click", () => sort(button.closest("th")));
});

// The filter acts on everything that has a method, an IPC, a protocol or a student.
const form = document.getElementById("filter");
const methods = [...new Set(all(".board tr[data-method]:not(.reference)").map((row) => row.dataset.method))];
function filter() {
  const words = form.elements.method.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const matches = (name) => !words.length || words.some((word) => name.toLowerCase().includes(word));
  const unchecked = all("input[type=checkbox]:not(:checked)", form);
  all("[data-method], [data-methods], [data-ipc], [data-protocol], [data-student]").forEach((element) => {
    const data = element.dataset;
    const names = data.methods ? data.methods.split(" ") : [data.method ?? ""];
    const off = unchecked.some((box) => data[box.name] === box.value);
    element.classList.toggle("filtered", off || ((data.method ?? data.methods) !== undefined && !names.some(matches)));
  });
  const shown = methods.filter(matches).length;
  form.querySelector("output").textContent = words.length ? `${shown} of ${methods.length} methods` : "";
}
form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());

// Images are enlarged in a dialog: complete sheets with their classes, figures in their size.
const dialog = document.querySelector("dialog");
all(".enlarge").forEach((button) => {
  button.addEventListener("click", () => {
    const content = dialog.querySelector(".content");
    const image = button.querySelector("img").cloneNode();
    const classes = button.closest(".matrix")?.querySelector(".classes");
    content.replaceChildren(...(classes ? [classes.cloneNode(true)] : []), image);
    content.className = classes ? "content pixels" : "content";
    dialog.className = classes ? "" : "wide";
    dialog.querySelector("h3").textContent = button.dataset.title;
    dialog.showModal();
  });
});
dialog.querySelector("button").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
