"use strict";
(() => {
  const data = JSON.parse(document.getElementById("tree-data").textContent);
  const rows = data.rows, depth = data.levels, letters = "abcdefgh", most = 200;
  const overall = new Map();
  const wordsOf = text => new Set((text.toLowerCase().match(/[\p{L}\p{N}]{3,}/gu) || []));
  for (const row of rows) for (const word of wordsOf(row[2])) overall.set(word, (overall.get(word) || 0) + 1);

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const token = (level, code) => `<${letters[level]}_${code}>`;

  // words that are more frequent among rows lo..hi than elsewhere
  const typical = (lo, hi) => {
    const here = new Map();
    for (let i = lo; i < hi; i++) for (const word of wordsOf(rows[i][2])) here.set(word, (here.get(word) || 0) + 1);
    const scored = [...here].filter(([, count]) => count > 1 || hi - lo === 1)
      .map(([word, count]) => [word, count / (hi - lo) * Math.log(rows.length * count / ((hi - lo) * overall.get(word)) + 1)]);
    scored.sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    return scored.slice(0, 4).map(pair => pair[0]).join(", ");
  };

  const leaf = row => {
    const line = element("div", undefined, "leaf");
    line.append(element("code", row[0].map((code, level) => token(level, code)).join("")),
      element("span", ` ${row[1]} `, "token"), element("span", row[2] || "(no title)"));
    return line;
  };

  const children = (box, lo, hi, level) => {
    if (level === depth - 1) {
      for (let i = lo; i < hi; i++) box.append(leaf(rows[i]));
      return;
    }
    const groups = [];
    for (let start = lo; start < hi;) {
      let end = start;
      while (end < hi && rows[end][0][level] === rows[start][0][level]) end++;
      groups.push([start, end]);
      start = end;
    }
    groups.sort((a, b) => (b[1] - b[0]) - (a[1] - a[0]) || a[0] - b[0]);
    for (const [start, end] of groups) {
      const node = element("details"), title = element("summary");
      title.append(element("code", token(level, rows[start][0][level])),
        element("span", ` ${end - start} ${end - start === 1 ? "item" : "items"} `, "count"),
        element("span", typical(start, end), "words"));
      node.append(title);
      node.addEventListener("toggle", () => {
        if (node.open && node.children.length === 1) {
          const inner = element("div", undefined, "inner");
          children(inner, start, end, level + 1);
          node.append(inner);
        }
      });
      box.append(node);
    }
  };
  children(document.getElementById("tree"), 0, rows.length, 0);

  const found = document.getElementById("found"), search = document.getElementById("search");
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    found.replaceChildren();
    if (wanted.length < 2) return;
    const hits = rows.filter(row => row[2].toLowerCase().includes(wanted) || row[1].toLowerCase() === wanted);
    found.append(element("p", hits.length > most ? `${hits.length} items, the first ${most}:` : `${hits.length} items`));
    for (const row of hits.slice(0, most)) found.append(leaf(row));
  });
})();
