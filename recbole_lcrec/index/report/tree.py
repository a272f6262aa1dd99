"""The index as a tree that can be browsed and searched: data for the page, and the script that draws it.

The page holds the items once, sorted by path, so that every node is a range of rows and nothing but what is open needs
to be drawn. All text reaches the page through ``textContent``, never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from recbole_lcrec.index.item_index import LEVEL_LETTERS, ItemIndex


def script_json(value: object) -> str:
    """Return JSON that may stand inside a ``<script>`` element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def tree_data(index: ItemIndex, titles: Sequence[str]) -> str:
    """Return the items, their titles and their codes (flattened), all sorted by path, as JSON for the page."""
    assert len(titles) == len(index)
    order = np.lexsort(index.codes.T[::-1])
    return script_json(
        {
            "letters": LEVEL_LETTERS[: index.codes.shape[1]],
            "items": [index.items[row] for row in order],
            "titles": [titles[row] for row in order],
            "codes": index.codes[order].ravel().tolist(),
        }
    )


TREE_HTML = """
<div class="tools">
  <label>Search <input id="tree-search" type="search" autocomplete="off" spellcheck="false"
    placeholder="words of a title, an item token, or &lt;a_12&gt;&lt;b_3&gt;"></label>
  <label>Order <select id="tree-order">
    <option value="count">most items first</option><option value="code">by code</option></select></label>
  <button id="tree-close" type="button">Close all</button>
</div>
<p id="tree-status" class="quiet" aria-live="polite"></p>
<ul id="tree-results" class="tree" hidden></ul>
<ul id="tree" class="tree"></ul>
<noscript><p>The tree needs JavaScript.</p></noscript>
"""

TREE_CSS = """
.tools { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: center; }
.tools label:first-child { flex: 1 1 22rem; display: flex; gap: .6rem; align-items: center; }
.tools input { flex: 1; min-width: 8rem; }
.tools input, .tools select, .tools button { font: inherit; padding: .35rem .6rem; border: 1px solid var(--line);
  border-radius: 6px; background: #fff; color: inherit; }
ul.tree, ul.tree ul { list-style: none; margin: 0; padding: 0; }
ul.tree { border: 1px solid var(--line); border-radius: 8px; padding: .4rem; max-height: 34rem; overflow: auto;
  margin-bottom: .8rem; }
ul.tree ul { margin-left: .95rem; border-left: 1px solid var(--line); padding-left: .5rem; }
.row { display: flex; gap: .7rem; align-items: baseline; width: 100%; padding: .18rem .4rem; border: 0;
  border-radius: 5px; background: none; font: inherit; color: inherit; text-align: left; }
button.row { cursor: pointer; }
button.row:hover { background: #eef2f6; }
button.row::before { content: "\\25B8"; color: var(--quiet); width: .7rem; flex: none; }
button.row[aria-expanded="true"]::before { content: "\\25BE"; }
div.row::before { content: ""; width: .7rem; flex: none; }
.row.found { background: #fdf3d0; }
.path { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .86em; flex: none;
  color: #2b5c8a; }
.count { flex: none; color: var(--quiet); min-width: 4.4rem; font-variant-numeric: tabular-nums; }
.text { flex: 1 1 auto; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
button.row .text { color: var(--quiet); }
button.row .path { min-width: 3.6rem; }
.item { flex: none; color: var(--quiet); font-size: .86em; max-width: 12rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.link { flex: none; border: 0; background: none; font: inherit; color: #2b5c8a; cursor: pointer; padding: 0;
  text-decoration: underline; }
.link.more { padding: .3rem 1.5rem; }
"""

TREE_JS = r"""
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
"""
