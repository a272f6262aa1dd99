(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("tree-data").textContent);
  const depth = data.letters.length, n = data.items.length, CHUNK = 200, HITS = 100;
  const tree = document.getElementById("tree"), results = document.getElementById("tree-results");
  const status = document.getElementById("tree-status"), search = document.getElementById("tree-search");
  const order = document.getElementById("tree-order");
  const plural = (count) => count.toLocaleString("en") + (count === 1 ? " item" : " items");

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function path(row, from, to) {
    let text = "";
    for (let level = from; level < to; level++)
      text += "<" + data.letters[level] + "_" + data.codes[row * depth + level] + ">";
    return text;
  }
  function title(row) { return data.titles[row] || "(no title)"; }

  // rows [low, high) share their first `level` codes; one range per code of the next level
  function children(low, high, level) {
    const ranges = [];
    for (let row = low; row < high; row++) {
      const last = ranges[ranges.length - 1];
      if (last && data.codes[last[0] * depth + level] === data.codes[row * depth + level]) last[1] = row + 1;
      else ranges.push([row, row + 1]);
    }
    if (order.value === "count") ranges.sort((a, b) => (b[1] - b[0]) - (a[1] - a[0]) || a[0] - b[0]);
    return ranges;
  }
  function preview(low, high) {
    const seen = [];
    for (const row of [low, (low + high) >> 1, high - 1])
      if (data.titles[row] && !seen.includes(data.titles[row])) seen.push(data.titles[row]);
    return seen.join("  ·  ");
  }
  function leaf(row, from) {
    const line = element("div", "row");
    const text = element("span", "text", title(row));
    text.title = title(row);
    line.append(element("span", "path", path(row, from, depth)), text, element("span", "item", data.items[row]));
    const entry = element("li");
    entry.append(line);
    return entry;
  }
  function branch(low, high, level) {
    const entry = element("li"), line = element("button", "row");
    line.type = "button";
    line.setAttribute("aria-expanded", "false");
    line.append(element("span", "path", path(low, level, level + 1)), element("span", "count", plural(high - low)),
      element("span", "text", preview(low, high)));
    let list = null;
    entry.toggle = function (open) {
      if (open && !list) { list = element("ul"); fill(list, low, high, level + 1); entry.append(list); }
      if (list) list.hidden = !open;
      line.setAttribute("aria-expanded", String(open));
      return list;
    };
    line.addEventListener("click", () => entry.toggle(line.getAttribute("aria-expanded") !== "true"));
    entry.append(line);
    return entry;
  }
  function fill(list, low, high, level) {
    const ranges = children(low, high, level);
    let shown = 0;
    const more = element("li"), button = element("button", "link more");
    button.type = "button";
    more.append(button);
    list.entries = [];
    list.ranges = ranges;
    list.showTo = function (wanted) {
      for (; shown < Math.min(wanted, ranges.length); shown++) {
        const [from, to] = ranges[shown];
        const entry = to - from === 1 ? leaf(from, level) : branch(from, to, level);
        list.entries.push(entry);
        list.insertBefore(entry, more.parentNode ? more : null);
      }
      if (shown < ranges.length) {
        button.textContent = "show more (" + (ranges.length - shown).toLocaleString("en") + " left)";
        list.append(more);
      } else more.remove();
    };
    button.addEventListener("click", () => list.showTo(shown + CHUNK));
    list.showTo(CHUNK);
  }
  function start() { tree.replaceChildren(); fill(tree, 0, n, 0); }

  function reveal(row) {
    let list = tree, entry = null;
    for (;;) {
      const place = list.ranges.findIndex(([low, high]) => low <= row && row < high);
      list.showTo(place + 1);
      entry = list.entries[place];
      if (!entry.toggle) break;
      list = entry.toggle(true);
    }
    tree.querySelectorAll(".found").forEach((old) => old.classList.remove("found"));
    const line = entry.firstElementChild;
    line.classList.add("found");
    tree.scrollTop += line.getBoundingClientRect().top - tree.getBoundingClientRect().top - tree.clientHeight / 2;
  }

  const plain = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  let texts = null;
  function find() {
    const words = plain(search.value).split(/\s+/).filter(Boolean);
    results.replaceChildren();
    results.hidden = !words.length;
    if (!words.length) { status.textContent = plural(n) + ", " + tree.ranges.length + " first codes."; return; }
    texts = texts || data.titles.map((text, row) => plain(text + " " + data.items[row] + " " + path(row, 0, depth)));
    let hits = 0;
    for (let row = 0; row < n; row++) {
      if (!words.every((word) => texts[row].includes(word))) continue;
      if (++hits > HITS) continue;
      const entry = leaf(row, 0), link = element("button", "link", "show in tree");
      link.type = "button";
      link.addEventListener("click", () => reveal(row));
      entry.firstElementChild.append(link);
      results.append(entry);
    }
    results.hidden = !hits;
    status.textContent = hits ? plural(hits) + (hits > HITS ? ", the first " + HITS + " are shown." : ".")
      : "No item has all these words.";
  }
  let timer = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(find, 120); });
  order.addEventListener("change", start);
  document.getElementById("tree-close").addEventListener("click", start);
  start();
  find();
})();
