"use strict";
// Every table with a head of names sorts by a column, by mouse or keyboard: up, down, and as it was. A long one has a
// filter. Without a script a table is as it is.
(() => {
  const many = 8; // rows from which a filter helps
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const textOf = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "");
  const numberOf = (text) => {
    const found = /^[-+]?(?:\d[\d,]*)?(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\.\d)/i.exec(text);
    return found && found[0] ? Number(found[0].replaceAll(",", "")) : NaN;
  };
  // Numbers by size, then other texts by their words; what is no number stays behind numbers in both directions.
  const compare = (one, other, sign) => {
    const [left, right] = [numberOf(one), numberOf(other)];
    if (Number.isNaN(left) !== Number.isNaN(right)) return Number.isNaN(left) ? 1 : -1;
    return sign * (left - right || words.compare(one, other));
  };

  const sortable = (table) => {
    const head = table.tHead.rows[0];
    const rows = [...table.tBodies[0].rows];
    const sort = (column, direction) => {
      const sign = direction === "descending" ? -1 : 1;
      const ordered = direction ? [...rows].sort((a, b) => compare(textOf(a, column), textOf(b, column), sign)) : rows;
      table.tBodies[0].append(...ordered);
      [...head.cells].forEach((cell, place) => {
        if (direction && place === column) cell.setAttribute("aria-sort", direction);
        else cell.removeAttribute("aria-sort");
      });
    };
    [...head.cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      const next = { ascending: "descending", descending: "" };
      button.addEventListener("click", () => sort(column, next[cell.getAttribute("aria-sort")] ?? "ascending"));
      cell.append(button);
    });
    table.tHead.classList.add("sorts");
    return rows;
  };

  const filtered = (table, rows) => {
    const box = document.createElement("div");
    const label = document.createElement("label");
    const input = document.createElement("input");
    const count = document.createElement("span");
    box.className = "filter";
    input.type = "search";
    input.autocomplete = "off";
    count.setAttribute("role", "status");
    label.append("Only rows with ", input);
    box.append(label, count);
    table.before(box);
    input.addEventListener("input", () => {
      const asked = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row) => (row.hidden = !asked.every((word) => row.textContent.toLowerCase().includes(word))));
      count.textContent = asked.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
    return () => {
      input.value = "";
      input.dispatchEvent(new Event("input"));
    };
  };

  const clear = new Map();
  for (const table of document.querySelectorAll("table")) {
    if ("fixed" in table.dataset) continue; // its order is part of what it says
    const named = table.tHead && [...table.tHead.rows[0].cells].every((cell) => cell.tagName === "TH" && cell.textContent.trim());
    if (!named || !table.tBodies.length || table.tBodies[0].rows.length < 2) continue;
    const rows = sortable(table);
    if (rows.length >= many) clear.set(table, filtered(table, rows));
  }
  // A link to a row that a filter hides, or that lies in a fold, shows it.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest("tr[hidden]")) clear.get(target.closest("table"))();
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", reveal);
  reveal();
})();
