// What a reader may do with a table: sort it, filter it, hide columns, compare two rows, ask a cell, copy a command. The page
// can be read without any of it. Texts are only ever set as text.
"use strict";

(() => {
  const make = (tag, fields = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), fields);
    element.append(...inside);
    return element;
  };
  const rowsOf = (body) => [...body.rows].filter((row) => !row.matches(".section, .open"));

  // --- sorting: within each body, so that sections stay what they are; a third time brings back the first order ---

  const close = (table) => table.querySelectorAll(".open").forEach((row) => row.remove());

  const compare = (column, sign) => (one, other) => {
    const [a, b] = [one, other].map((row) => row.cells[column]);
    const ranks = [a, b].map((cell) => (cell.dataset.v !== undefined ? 0 : cell.matches(".none") ? 2 : 1));
    if (ranks[0] !== ranks[1]) return ranks[0] - ranks[1]; // words behind numbers, dashes last, in both directions
    if (ranks[0] === 0) return sign * (Number(a.dataset.v) - Number(b.dataset.v));
    return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  };

  const sort = (table, head) => {
    const first = head.dataset.first || "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const now = head.getAttribute("aria-sort");
    const next = now === null ? first : now === first ? second : null;
    table.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    if (next) head.setAttribute("aria-sort", next);
    close(table);
    const order = next
      ? compare(Number(head.dataset.col), next === "ascending" ? 1 : -1)
      : (one, other) => one.dataset.at - other.dataset.at;
    for (const body of table.tBodies) body.append(...rowsOf(body).sort(order));
  };

  const sortable = (table) => {
    let at = 0;
    for (const body of table.tBodies) for (const row of rowsOf(body)) row.dataset.at = at++;
    for (const head of table.tHead.querySelectorAll("[data-col]")) {
      const button = make("button", { type: "button" }, ...head.childNodes);
      button.setAttribute("aria-label", `${head.dataset.name}: sort`);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
    }
  };

  // --- filter and groups of columns ---

  const filter = (table, words, told) => {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let [shown, all] = [0, 0];
    close(table);
    for (const body of table.tBodies) {
      const rows = rowsOf(body);
      for (const row of rows) row.hidden = !wanted.every((word) => row.dataset.find.includes(word));
      const left = rows.filter((row) => !row.hidden).length;
      body.hidden = left === 0;
      [shown, all] = [shown + left, all + rows.length];
    }
    told.value = wanted.length ? `${shown} of ${all} rows` : "";
  };

  const headsOf = (table) => [...table.tHead.querySelectorAll("[data-col]")];

  const lay = (table, gone) => { // the columns without those of the set `gone`
    close(table);
    for (const row of table.rows) {
      for (const cell of row.cells) {
        if (row.matches(".section") || cell.matches(".group")) continue;
        cell.hidden = gone.has(row.parentElement === table.tHead ? Number(cell.dataset.col) : cell.cellIndex);
      }
    }
    for (const [, from, to, head] of groupsOf(table)) {
      const left = headsOf(table).filter((one) => !one.hidden && one.dataset.col >= from && one.dataset.col < to).length;
      head.hidden = left === 0;
      head.colSpan = left || 1;
    }
    table.dispatchEvent(new CustomEvent("columns", { detail: gone }));
  };

  const groupsOf = (table) => {
    const named = [...table.tHead.querySelectorAll(".group")];
    return named.map((head) => [head.textContent, Number(head.dataset.from), Number(head.dataset.to), head]);
  };

  // The least important columns are left out where all are wider than the window; a phone scrolls them instead.
  const folded = (table, scroll) => {
    const gone = new Set();
    const ranks = [...new Set(headsOf(table).map((head) => Number(head.dataset.rank || 0)))].sort((a, b) => b - a);
    for (const rank of ranks) {
      if (!rank || matchMedia("(max-width: 40rem)").matches || table.scrollWidth <= scroll.clientWidth) break;
      headsOf(table).filter((head) => Number(head.dataset.rank) === rank).forEach((head) => gone.add(Number(head.dataset.col)));
      lay(table, gone);
    }
    return gone;
  };

  const columns = (table, bar, scroll) => {
    const [gone, all] = [folded(table, scroll), headsOf(table)];
    const boxes = groupsOf(table).map(([name, from, to]) => {
      const box = make("input", { type: "checkbox" });
      const its = [...Array(to - from).keys()].map((at) => at + from);
      box.addEventListener("change", () => {
        its.forEach((at) => (box.checked ? gone.delete(at) : gone.add(at)));
        lay(table, gone);
      });
      const mark = () => {
        const hidden = its.filter((at) => gone.has(at)).length;
        [box.checked, box.indeterminate] = [hidden === 0, hidden > 0 && hidden < its.length];
      };
      mark();
      table.addEventListener("columns", mark);
      return make("label", {}, box, name);
    });
    const more = make("button", { type: "button", className: "copy" });
    const count = () => {
      more.hidden = gone.size === 0;
      more.textContent = `Show all columns (${gone.size} of ${all.length} left out)`;
    };
    count();
    table.addEventListener("columns", count);
    more.addEventListener("click", () => { gone.clear(); lay(table, gone); });
    if (boxes.length > 1) bar.append(make("fieldset", {}, make("legend", {}, "Columns"), ...boxes));
    bar.append(more);
  };

  // --- two rows beside each other: every number of both, their quotient, and whether their intervals meet ---

  const worded = (cell) => {
    if (!cell || cell.dataset.v === undefined) return "–";
    const span = cell.querySelector("small")?.textContent;
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("small, sup").forEach((part) => part.remove());
    return copy.textContent.trim() + (span ? ` ${span}` : "");
  };

  const verdictOf = (one, other) => {
    const bare = [one, other].filter((cell) => cell.dataset.low === undefined).length;
    if (bare) return bare === 1 || one.querySelector(".m") ? "no interval" : one.dataset.v === other.dataset.v ? "equal" : "";
    const apart = Number(one.dataset.high) < Number(other.dataset.low) || Number(other.dataset.high) < Number(one.dataset.low);
    return apart ? `${one.dataset.level} % intervals apart` : `${one.dataset.level} % intervals overlap: no order shown`;
  };

  const beside = (table, one, other) => {
    const line = (head) => {
      const [a, b] = [one, other].map((row) => row.cells[head.dataset.col]);
      if ([a, b].every((cell) => cell.dataset.v === undefined)) return "";
      const both = [a, b].every((cell) => cell.dataset.v !== undefined);
      const quotient = both && Number(a.dataset.v) > 0 && Number(b.dataset.v) > 0 ? Number(b.dataset.v) / Number(a.dataset.v) : 0;
      const cells = [worded(a), worded(b), quotient ? `×${quotient.toPrecision(3)}` : "–", both ? verdictOf(a, b) : ""];
      const name = make("th", { scope: "row" }, head.dataset.name);
      return make("tr", {}, name, ...cells.map((text) => make("td", {}, text)));
    };
    const titles = ["", nameOfRow(one), nameOfRow(other), "second over first", ""];
    const top = make("tr", {}, ...titles.map((text) => make("th", { scope: "col" }, text)));
    const rows = headsOf(table).slice(1).map(line).filter(Boolean);
    return make("table", { className: "beside" }, make("thead", {}, top), make("tbody", {}, ...rows));
  };

  const nameOfRow = (row) => row.cells[0].querySelector("a").textContent;

  const comparable = (section, table, bar, scroll) => {
    const rows = [...table.tBodies].flatMap(rowsOf);
    if (rows.length < 2) return;
    const size = headsOf(table).findIndex((head) => head.dataset.name === "size");
    const place = make("div", { className: "scroll", hidden: true, tabIndex: 0 });
    place.setAttribute("role", "region");
    place.setAttribute("aria-label", "Two rows beside each other");
    place.setAttribute("aria-live", "polite");
    const choices = ["first row", "second row"].map((word) => {
      const options = rows.map((row, at) => {
        const twins = rows.filter((other) => nameOfRow(other) === nameOfRow(row)).length > 1;
        const labels = [...row.cells].slice(1).filter((cell) => !cell.dataset.v && !cell.matches(".none, .fail"));
        const apart = twins ? [row.dataset.section, ...labels.map((cell) => cell.textContent)] : [];
        const more = [...apart, size > 0 && !(twins && labels.includes(row.cells[size])) ? `${row.cells[size].textContent} px` : ""].filter(Boolean).join(", ");
        return make("option", { value: at }, nameOfRow(row) + (more ? ` (${more})` : ""));
      });
      const choice = make("select", {}, make("option", { value: "" }, word), ...options);
      choice.setAttribute("aria-label", `Compare, ${word}: ${table.caption.textContent}`);
      return choice;
    });
    const draw = () => {
      const [one, other] = choices.map((choice) => (choice.value === "" ? null : rows[choice.value]));
      place.hidden = !(one && other);
      place.replaceChildren(...(place.hidden ? [] : [beside(table, one, other)]));
    };
    choices.forEach((choice) => choice.addEventListener("change", draw));
    bar.append(make("fieldset", {}, make("legend", {}, "Compare"), ...choices));
    scroll.before(place);
  };

  const tools = (section, table, scroll) => {
    const told = make("output");
    told.setAttribute("aria-live", "polite");
    const input = make("input", { type: "search", placeholder: "Filter rows" });
    input.setAttribute("aria-label", `Filter rows: ${table.caption.textContent}`);
    input.addEventListener("input", () => filter(table, input.value, told));
    const bar = section.querySelector(".tools");
    bar.prepend(input, told);
    columns(table, bar, scroll);
    comparable(section, table, bar, scroll);
  };

  // --- what a cell is asked: by pointer, by focus, by arrow keys ---

  const tip = make("div", { id: "tip", hidden: true });
  tip.setAttribute("role", "tooltip");

  const nameOf = (cell) => {
    const head = cell.closest("table").tHead.querySelector(`[data-col="${cell.cellIndex}"]`);
    return `${nameOfRow(cell.parentElement)}: ${head.dataset.name}`;
  };

  const show = (cell) => {
    if (cell.title) { // the browser's own tooltip would be a second one
      cell.dataset.tip = cell.title;
      cell.removeAttribute("title");
    }
    tip.replaceChildren(make("strong", {}, nameOf(cell)));
    tip.append(...(cell.dataset.tip || "Not known.").split("\n").map((line) => make("p", {}, line)));
    tip.hidden = false;
    cell.setAttribute("aria-describedby", "tip");
    const [where, size] = [cell.getBoundingClientRect(), tip.getBoundingClientRect()];
    const below = where.bottom + 6 + size.height <= innerHeight;
    const left = Math.min(Math.max(where.right - size.width, 8), document.documentElement.clientWidth - size.width - 8);
    tip.style.left = `${Math.max(left, 8)}px`;
    tip.style.top = `${below ? where.bottom + 6 : Math.max(where.top - size.height - 6, 4)}px`;
  };

  const hide = () => {
    tip.hidden = true;
    document.querySelectorAll("[aria-describedby='tip']").forEach((cell) => cell.removeAttribute("aria-describedby"));
  };

  const MOVES = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

  const next = (cell, [down, right]) => {
    const rows = [...cell.closest("table").tBodies].flatMap(rowsOf).filter((row) => !row.hidden && !row.parentElement.hidden);
    const row = rows[rows.indexOf(cell.parentElement) + down];
    let at = cell.cellIndex + right;
    while (row?.cells[at]?.hidden) at += right;
    return at > 0 ? row?.cells[at] : undefined;
  };

  const askable = (table) => {
    const cellAt = (event) => (event.target.closest ? event.target.closest("tbody tr:not(.open) > td") : null);
    const cells = table.querySelectorAll("tbody td");
    cells.forEach((cell, at) => { cell.tabIndex = at ? -1 : 0; });
    table.addEventListener("pointerover", (event) => { const cell = cellAt(event); if (cell) show(cell); else hide(); });
    table.addEventListener("pointerleave", hide);
    table.addEventListener("focusout", hide);
    table.addEventListener("focusin", (event) => {
      const cell = cellAt(event);
      if (!cell || cell !== event.target) return;
      table.querySelectorAll("td[tabindex='0']").forEach((other) => { other.tabIndex = -1; });
      cell.tabIndex = 0;
      show(cell);
    });
    table.addEventListener("keydown", (event) => {
      const move = MOVES[event.key];
      const to = move && event.target.matches("td") ? next(event.target, move) : undefined;
      if (to) { event.preventDefault(); to.focus(); }
    });
  };

  // --- a row's commands: in place, and copied ---

  const copyable = (code) => {
    const button = make("button", { type: "button", className: "copy" }, "copy");
    button.setAttribute("aria-label", `copy: ${code.textContent}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "copied";
      } catch { // no clipboard for a file in some browsers: select it, so that one key copies it
        getSelection().selectAllChildren(code);
        button.textContent = "selected";
      }
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    code.after(button);
  };

  const open = (event, link) => {
    const how = document.getElementById(link.hash.slice(1));
    const row = link.closest("tr");
    if (!how || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (row.nextElementSibling?.matches(".open")) {
      row.nextElementSibling.remove();
      link.setAttribute("aria-expanded", "false");
      return;
    }
    const copy = how.cloneNode(true);
    copy.removeAttribute("id");
    copy.querySelectorAll(".copy").forEach((button) => button.remove());
    copy.querySelectorAll(".cmd").forEach(copyable);
    row.after(make("tr", { className: "open" }, make("td", { colSpan: 99 }, copy)));
    link.setAttribute("aria-expanded", "true");
  };

  // --- all of it ---

  document.body.append(tip);
  const fit = (section, scroll, table) => section.classList.toggle("fits", table.scrollWidth <= scroll.clientWidth);
  for (const section of document.querySelectorAll("section.table")) {
    const table = section.querySelector("table");
    if (!table) continue;
    const scroll = section.querySelector(".scroll");
    sortable(table);
    tools(section, table, scroll);
    askable(table);
    new ResizeObserver(() => fit(section, scroll, table)).observe(scroll);
  }
  document.querySelectorAll(".cmd").forEach(copyable);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("tbody th[scope='row'] > a");
    if (link) open(event, link);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  const follow = () => { const at = document.activeElement; if (at.matches("tbody td")) show(at); else hide(); };
  addEventListener("scroll", () => { if (!tip.hidden) follow(); }, { passive: true, capture: true });
})();
