"use strict";
// The page of a server: a history is clicked together, and every change of it asks for recommendations anew.
// Texts of items are only ever set as text, never as HTML.

const at = (id) => document.getElementById(id);
const state = { runs: [], history: [], user: "", wish: "", asked: new AbortController(), longest: 0 };

function make(tag, options = {}, ...children) {
  const { label, ...rest } = options;
  const node = Object.assign(document.createElement(tag), rest);
  if (label) node.setAttribute("aria-label", label);
  node.append(...children);
  return node;
}

async function ask(path, body, signal) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  };
  const answer = await fetch(path, { ...options, signal });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail);
  return content;
}

function tell(error) {
  if (error && error.name === "AbortError") return;
  const text = error ? (error instanceof TypeError ? "The server does not answer." : error.message) : "";
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

const nameOf = (one) => one.title || `Item ${one.item}`;

function row(one, number, facts, buttons) {
  const name = make("div", { className: "name" }, nameOf(one), make("div", { className: "facts" }, ...facts));
  return make("li", {}, make("div", { className: "row" },
    make("span", { className: "rank" }, number), name, make("div", { className: "buttons" }, ...buttons)));
}

function button(text, label, onclick) {
  return make("button", { type: "button", label, onclick }, text);
}

// The history

function add(one) {
  state.history.push({ item: one.item, title: one.title });
  state.wish = state.user = "";
  changed();
}

function remove(place) {
  state.history.splice(place, 1);
  state.user = "";
  changed();
  const left = at("history").querySelectorAll("button");
  (left[Math.min(place, left.length - 1)] || at("words")).focus();
}

// Whether any run reads histories; otherwise nothing is clicked together.
const clicks = () => state.runs.some((run) => run.histories);

function changed() {
  const rows = state.history.map((one, place) => row(one, `${place + 1}`, [make("span", {}, one.item)],
    clicks() ? [button("Remove", `Remove ${nameOf(one)}`, () => remove(place))] : []));
  at("history").replaceChildren(...rows);
  at("empty").hidden = state.history.length > 0;
  at("clear").hidden = state.history.length === 0;
  refresh();
}

let typing;
let finding = new AbortController();

async function find() {
  const words = at("words").value.trim();
  finding.abort();
  finding = new AbortController();
  if (!words) {
    at("found").replaceChildren();
    at("find-status").textContent = "";
    return;
  }
  try {
    const { items } = await ask(`items?limit=6&q=${encodeURIComponent(words)}`, undefined, finding.signal);
    at("found").replaceChildren(...items.map((one) =>
      row(one, "", [make("span", {}, one.item)], [button("Add", `Add ${nameOf(one)}`, () => add(one))])));
    at("find-status").textContent = items.length ? `${items.length} found` : "Nothing found.";
    tell();
  } catch (error) {
    tell(error);
  }
}

async function load() {
  const user = at("user").value.trim();
  if (!user) return;
  try {
    const { name } = state.runs.find((run) => run.histories) || state.runs[0]; // others know no order
    state.history = (await ask(`users/${encodeURIComponent(user)}?run=${encodeURIComponent(name)}`)).history;
    state.user = user;
    state.wish = "";
    tell();
    changed();
  } catch (error) {
    tell(error);
  }
}

// The lists

function shown() {
  return state.runs.length > 1 && !at("beside").checked
    ? state.runs.filter((run) => run.name === at("run").value) : state.runs;
}

async function refresh() {
  state.asked.abort();
  state.asked = new AbortController();
  const { signal } = state.asked;
  const history = tokens();
  const k = at("k").valueAsNumber;
  const runs = shown();
  at("lists").classList.add("busy");
  const lists = await Promise.all(runs.map(async (run) => {
    try {
      if (!state.wish) {
        const body = { ...whom(run, history), k, paths: run.paths, run: run.name };
        return (await ask("recommend", body, signal)).recommendations[0];
      }
      const body = { query: state.wish, k, run: run.name, ...(history.length ? { history } : {}) };
      return (await ask("search", body, signal)).items;
    } catch (error) {
      return error;
    }
  }));
  if (signal.aborted) return;
  at("lists").classList.remove("busy");
  const failed = lists.filter((list) => list instanceof Error);
  const others = (mine) => lists.filter((list) => list !== mine && !(list instanceof Error)).flat();
  at("lists").replaceChildren(...runs.map((run, place) => panel(run, lists[place], others(lists[place]))));
  at("status").textContent = failed.length === lists.length ? "No answer." : asked(history.length);
}

const tokens = () => state.history.slice(-state.longest).map((one) => one.item);

function whom(run, history) {
  if (run.histories || !history.length) return { histories: [history] };
  if (state.user) return { users: [state.user] };
  throw new Error(`${run.model} knows the users of the data set, and makes nothing of other histories. Load a user's.`);
}

function asked(items) {
  if (state.wish) return `For the wish “${state.wish}”${items ? " and the history" : ""}`;
  if (!clicks() && state.user) return `For user ${state.user}`;
  return items ? `After a history of ${items} ${items > 1 ? "items" : "item"}` : "Without a history: what is most frequent";
}

function panel(run, list, others) {
  const title = make("h2", {}, state.runs.length > 1 ? run.name : "Recommended");
  const about = make("p", { className: "quiet" }, run.model);
  if (list instanceof Error) {
    const text = list instanceof TypeError ? "The server does not answer." : list.message;
    return make("section", {}, title, about, make("p", { className: "warning" }, text));
  }
  const both = new Set(others.map((one) => one.item));
  const rows = list.map((one, place) => {
    const popular = !state.wish && !state.history.length;
    const score = popular ? `${one.score} interactions` : `score ${one.score.toPrecision(4)}`;
    const facts = [make("span", {}, one.item), make("span", {}, score)];
    if (one.path) facts.push(make("span", { className: "path", title: "path of codes" }, one.path.join(" ")));
    if (both.has(one.item)) facts.push(make("span", { className: "both" }, "in both lists"));
    const buttons = clicks() ? [button("Add", `Add ${nameOf(one)} to the history`, () => add(one))] : [];
    if (state.history.length && run.histories) buttons.unshift(why(run, one));
    return row(one, `${place + 1}`, facts, buttons);
  });
  return make("section", {}, title, about, make("ol", { className: "items", label: `Items of ${run.name}` }, ...rows));
}

// Why an item

function why(run, one) {
  const opener = button("Why", `Why ${nameOf(one)}?`, async () => {
    const line = opener.closest("li");
    const open = opener.getAttribute("aria-expanded") === "true";
    opener.setAttribute("aria-expanded", String(!open));
    if (open) {
      line.querySelector(".why").remove();
      return;
    }
    const box = make("div", { className: "why", role: "status" }, "Asking …");
    line.append(box);
    try {
      box.replaceChildren(described(await ask("explain", { history: tokens(), item: one.item, run: run.name })));
    } catch (error) {
      box.replaceChildren(error.message);
    }
  });
  opener.setAttribute("aria-expanded", "false");
  return opener;
}

function described(found) {
  const box = make("div");
  if (found.steps.length) {
    const rows = found.steps.map((step) => {
      const share = make("span", {}, percent(step.log_prob));
      const other = step.alternative ? `best other: ${step.alternative.code} ${percent(step.alternative_log_prob)}` : "";
      return [make("span", { className: "path" }, step.meaning.code), share, make("span", {}, meaning(step.meaning),
        make("small", {}, other))];
    });
    box.append(table("Its path, code by code", ["code", "probability", "stands for"], rows));
  }
  const changes = found.influences.map((one) => [nameOf(one), one.change === null ? "–" : signed(one.change)]);
  box.append(table("The history: what each item adds to the score", ["item", "score"], changes));
  return box;
}

function table(caption, head, rows) {
  const cells = (kind, values) => make("tr", {}, ...values.map((value) => make(kind, {}, value)));
  const columns = cells("th", head);
  columns.querySelectorAll("th").forEach((one) => { one.scope = "col"; });
  return make("table", {}, make("caption", {}, caption), make("thead", {}, columns),
    make("tbody", {}, ...rows.map((row) => cells("td", row))));
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
const percent = (logarithm) => {
  const share = 100 * Math.exp(logarithm);
  return share < 0.1 ? "< 0.1%" : `${share.toFixed(share < 10 ? 1 : 0)}%`;
};
const meaning = ({ words, items, examples }) =>
  `${words.join(", ") || "–"} (${items} ${items > 1 ? "items" : "item"}${examples.length ? ": " : ""}${
    examples.slice(0, 2).join("; ")}${items > 2 ? " …" : ""})`;

function begin({ runs, settings }) {
  state.runs = runs;
  at("about").textContent = runs.map((run) => `${run.name}: ${run.model} on ${run.dataset}`).join(" · ");
  at("k").max = settings.serve_k;
  state.longest = settings.longest_history;
  at("beside-label").hidden = runs.length < 2;
  if (!clicks()) {
    for (const id of ["find", "find-status", "wish"]) at(id).hidden = true;
    at("user-label").textContent = "A user of the data set";
    at("items-title").textContent = "Items of the user";
    at("empty").textContent = "None yet. Load a user: these models know the users of the data set alone.";
  }
  at("run").replaceChildren(...runs.map((run) => make("option", {}, run.name)));
  changed();
}

at("find").addEventListener("submit", (event) => { event.preventDefault(); find(); });
at("words").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(find, 200); });
at("load").addEventListener("submit", (event) => { event.preventDefault(); load(); });
at("wish").addEventListener("submit", (event) => {
  event.preventDefault();
  state.wish = at("query").value.trim();
  refresh();
});
at("clear").addEventListener("click", () => {
  state.history = [];
  state.user = "";
  changed();
  at(clicks() ? "words" : "user").focus();
});
at("k").addEventListener("change", () => { if (at("k").reportValidity()) refresh(); });
at("run").addEventListener("change", refresh);
at("beside").addEventListener("change", () => { at("run-label").hidden = at("beside").checked; refresh(); });
ask("health").then(begin, tell);
