// Rows of the checks, made from the data of the page when a chapter, a check or a search asks for them. All text is set
// as text: nothing of a run becomes markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const query = document.getElementById("query");
  const only = document.getElementById("only");
  const order = document.getElementById("order");
  const found = document.getElementById("found");
  if (!query) return;
  const signs = { passed: "\u2713", failed: "\u2717", error: "!", warned: "!", not_run: "\u2013", not_applicable: "\u00b7", deviation: "\u2248" };
  const pressing = new Set(["failed", "error", "warned", "not_run"]);
  const chapters = [...document.querySelectorAll("details.chapter")];
  const entries = [...document.querySelectorAll("details.entry")].filter((entry) => entry.id);
  const byName = new Map(data.chapters.flat().map((check) => [check.name, check]));
  const anchorOf = (check) => check.anchor || `check-${check.name}`;
  const chapterOf = new Map(data.chapters.flatMap((checks, chapter) => checks.map((check) => [anchorOf(check), chapter])));

  const make = (tag, name, ...inner) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...inner);
    return element;
  };
  const link = (place, text) => {
    const element = make("a", "", make("code", "", text));
    element.href = `#${place}`;
    return element;
  };

  const lineOf = (one) => {
    if (typeof one === "string") return make("li", "", make("code", "", one), " exactly equal");
    const [name, rule, error, bound, ratio, index, observed, expected] = one;
    const numbers = ratio === null ? "not numeric" : `error ${error}, bound ${bound}, ${Number(ratio.toPrecision(2))} of it`;
    const ruled = make("a", "", `R${rule}`);
    ruled.href = `#rule-${rule}`;
    const line = make("li", observed === undefined ? "" : "over", make("code", "", name), ` ${numbers}, `, ruled);
    if (observed !== undefined) line.append(` failed${index ? ` at ${index}` : ""}: observed `, make("code", "", observed), ", expected ", make("code", "", expected));
    return line;
  };
  const measurements = (check) => make("ul", "lines", ...check.measured.map(lineOf));

  const fill = (row, check) => {
    if (row.dataset.filled) return;
    row.dataset.filled = "yes";
    const inside = make("div", "inside");
    const say = (label, ...text) => inside.append(make("p", "", label, ...text));
    if (check.reason) say(check.reason);
    if (check.because) say(check.outcome === "failed" ? "May follow from " : "Because of ", link(check.because_anchor, check.because));
    if (check.deviation) say("Declared deviation: ", make("code", "", check.deviation));
    if (check.module) say("Diverges first at ", make("code", "", check.module));
    if (["failed", "error", "warned"].includes(check.outcome)) say("", link(anchorOf(check), "How it failed"));
    if (check.rerun) say("Run again: ", make("code", "", check.rerun));
    if (check.measured.length) inside.append(measurements(check));
    const here = make("a", "", "Link to this check");
    here.href = `#${anchorOf(check)}`;
    say(`${check.seconds.toFixed(2)} s. `, here);
    row.append(inside);
  };

  // The largest error over its bound; 0 if all is exact, less without any number.
  const gravestOf = (check) => Math.max(-1, ...check.measured.map((one) => (typeof one === "string" ? 0 : one[4] || 0)));

  const rowOf = (check) => {
    const gravest = gravestOf(check);
    const side = check.because ? `because of ${check.because}` : gravest > 0 ? `${Number(gravest.toPrecision(2))} of the bound` : "";
    const sign = make("span", `sign ${check.outcome}`, signs[check.outcome]);
    sign.setAttribute("aria-hidden", "true");
    const short = check.name.slice(check.name.indexOf(".") + 1);
    const summary = make(
      "summary", "",
      make("span", "name", sign, make("code", "", short), make("span", "outcome", ` ${data.outcomes[check.outcome]}`)),
      make("span", "promise", data.promises[check.promise]),
      make("span", "budget", side),
    );
    const row = make("details", "check", summary);
    if (!document.getElementById(anchorOf(check))) row.id = anchorOf(check);
    row.addEventListener("toggle", () => row.open && fill(row, check));
    return row;
  };

  // Orders of the checks, and by their first ones of the chapters.
  const orders = {
    name: (one, other) => one.name.localeCompare(other.name, "en", { numeric: true }),
    margin: (one, other) => gravestOf(other) - gravestOf(one),
    time: (one, other) => other.seconds - one.seconds,
  };
  const checksOf = (chapter) => {
    const checks = data.chapters[chapter.dataset.chapter];
    return order.value ? [...checks].sort(orders[order.value]) : checks;
  };
  const behind = chapters[chapters.length - 1].nextSibling;
  const arrange = () => {
    const first = new Map(chapters.map((chapter) => [chapter, checksOf(chapter)[0]]));
    const ordered = order.value ? [...chapters].sort((one, other) => orders[order.value](first.get(one), first.get(other))) : chapters;
    for (const chapter of ordered) chapter.parentElement.insertBefore(chapter, behind);
    for (const chapter of chapters) if (chapter.open) show(chapter, matching(chapter));
  };

  // A chapter's rows: those that match, or all. They are made again only when what is wanted has changed.
  const show = (chapter, wanted) => {
    const every = wanted.length === data.chapters[chapter.dataset.chapter].length;
    const key = `${order.value}|${every ? "all" : `${query.value}|${only.checked}`}`;
    if (chapter.dataset.shown === key) return;
    chapter.dataset.shown = key;
    chapter.querySelectorAll(":scope > .check").forEach((row) => row.remove());
    chapter.append(...wanted.map(rowOf));
  };
  const matching = (chapter) => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    return checksOf(chapter).filter((check) => {
      if (only.checked && !pressing.has(check.outcome)) return false;
      const text = `${check.name} ${data.promises[check.promise]} ${check.module || ""}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
  };

  const most = 300; // rows that a search opens by itself
  const search = () => {
    const asked = query.value.trim() !== "" || only.checked;
    let checks = 0;
    let changes = 0;
    for (const chapter of chapters) {
      const wanted = matching(chapter);
      checks += wanted.length;
      chapter.hidden = asked && wanted.length === 0;
      chapter.open = asked && wanted.length > 0 && checks <= most;
      if (chapter.open) show(chapter, wanted);
    }
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const entry of entries) {
      const items = [...entry.querySelectorAll("li")];
      const heading = entry.querySelector("summary").textContent.toLowerCase();
      const hits = items.filter((item) => {
        const text = `${heading} ${item.textContent.toLowerCase()}`;
        const hit = words.every((word) => text.includes(word)) && !(only.checked && item.classList.contains("accepted"));
        item.hidden = !hit;
        return hit;
      });
      changes += hits.length;
      entry.hidden = hits.length === 0;
      entry.open = words.length > 0 && hits.length > 0 && hits.length <= most;
    }
    const also = entries.length ? ` and ${changes} change${changes === 1 ? "" : "s"}` : "";
    found.textContent = asked ? `${checks} check${checks === 1 ? "" : "s"}${also} found` : "";
  };

  const reveal = () => {
    let place = location.hash.slice(1);
    try {
      place = decodeURIComponent(place);
    } catch {
      // it is not encoded
    }
    if (!document.getElementById(place) && chapterOf.has(place)) {
      const chapter = chapters[chapterOf.get(place)];
      chapter.hidden = false;
      chapter.open = true;
      show(chapter, checksOf(chapter));
    }
    const target = document.getElementById(place);
    if (!target) return;
    for (let element = target; element; element = element.parentElement) {
      if (element.tagName === "DETAILS") element.open = true;
    }
    if (target.tagName === "DETAILS") target.querySelector("summary").focus({ preventScroll: true });
    target.scrollIntoView();
  };

  for (const chapter of chapters) chapter.addEventListener("toggle", () => chapter.open && show(chapter, matching(chapter)));
  for (const details of document.querySelectorAll("details.measured")) {
    details.addEventListener("toggle", () => details.open && details.childElementCount === 1 && details.append(measurements(byName.get(details.dataset.check))));
  }
  let waiting = 0;
  query.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 150);
  });
  only.addEventListener("change", search);
  order.addEventListener("change", arrange);
  document.getElementById("search").hidden = false;
  window.addEventListener("hashchange", reveal);
  reveal();
})();
