// The browser of pairs and users. Every text is a stranger's: it enters the page as textContent
// alone. What is listed is made page by page, what an entry holds when it is opened.
(() => {
"use strict";
const PAGE = 20;
const MOST_CELLS = 4_000_000; // of a comparison of two texts, word by word
const SPLITS = { train: "train", valid: "validation", test: "test" };
const app = document.getElementById("browser-app");
const form = app.querySelector("form");
const [found, list, back, next] = ["found", "entries", "back", "next"]
  .map((name) => document.getElementById("browser-" + name));
let data, views;
let rows = [], page = 0;

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const strange = (text) => el("bdi", {}, text);
const score = (value) => value.toFixed(4).replace(/^(-?)0\./, "$1.").replace("-", "−");
const points = (value) =>
  (value < 0 ? "−" : "+") + Math.abs(100 * value).toFixed(2) + " points";
const byId = (a, b) => a.place - b.place;

function read() {
  data = JSON.parse(document.getElementById("browser-data").textContent);
  const users = data.users.map(([user, split, history, texts, values, number, lists], place) => {
    const told = data.variants.flatMap(([, isPolicy], n) => (isPolicy ? [n] : []));
    const [first, last] = [told[0], told.at(-1)];
    const [before, after] = [values[first + 1], values[last + 1]];
    const gain = before == null || after == null || first === last ? null : after - before;
    return { user, split, history, texts, values, number, lists, place, first, last, gain };
  });
  const places = new Map(users.map(({ user, place }) => [user, place]));
  const pairs = data.pairs.map(([round, split, user, history, chosen, rejected, better, worse]) => ({
    round, split, user, history, chosen, rejected, better, worse, margin: better - worse,
    place: places.get(user) ?? users.length,
  }));
  const known = (row) => row.gain != null;
  views = {
    pairs: {
      rows: pairs, name: "pairs", summary: pairSummary, body: pairBody,
      texts: (row) => [row.history, row.chosen, row.rejected],
      orders: {
        "margin, largest first": (a, b) => b.margin - a.margin,
        "margin, smallest first": (a, b) => a.margin - b.margin,
        "user": byId,
      },
    },
    users: {
      rows: users, name: "users", summary: userSummary, body: userBody,
      texts: (row) => [row.history, ...row.texts.filter((text) => text != null)],
      orders: {
        "user": byId,
        "gain, largest first": (a, b) => known(b) - known(a) || b.gain - a.gain || byId(a, b),
        "loss, largest first": (a, b) => known(b) - known(a) || a.gain - b.gain || byId(a, b),
      },
    },
  };
}

// Which texts and titles hold a term: looked up once per search, not once per entry.
function finder(term) {
  const inside = (strings) => strings.map((text) => text.toLowerCase().includes(term));
  const [texts, titles] = [inside(data.texts), inside(data.titles)];
  return (view, row) =>
    row.user.toLowerCase() === term ||
    view.texts(row).some((number) => texts[number]) ||
    (row.lists ?? []).some(([items]) => items.some((number) => titles[number]));
}

function view() {
  return views[form.elements.view.value];
}

// "user 12", as entries are called, is the id 12 where there is one.
function asUser(typed, entries) {
  const id = typed.replace(/^user\s+/, "");
  return entries.some((row) => row.user.toLowerCase() === id) ? id : typed;
}

function search() {
  const { words, round, split, order } = form.elements;
  const shown = view();
  const whole = asUser(words.value.trim().toLowerCase(), shown.rows);
  const finders = whole.split(/\s+/).filter(Boolean).map(finder);
  rows = shown.rows.filter((row) =>
    (round.disabled || !round.value || row.round === Number(round.value)) &&
    (!split.value || row.split === split.value) &&
    finders.every((matches) => matches(shown, row)));
  const named = (row) => row.user.toLowerCase() === whole;
  const compare = shown.orders[order.value];
  rows.sort((a, b) => named(b) - named(a) || compare(a, b));
  page = 0;
  show();
}

function show() {
  const shown = view();
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  list.replaceChildren(...rows.slice(page * PAGE, (page + 1) * PAGE).map((row) => entry(shown, row)));
  found.textContent = `${rows.length.toLocaleString("en")} of ${shown.rows.length.toLocaleString("en")} `
    + `${shown.name}${rows.length ? `; page ${page + 1} of ${pages}` : ": nothing fits the words and filters"}`;
  back.disabled = page === 0;
  next.disabled = page + 1 >= pages;
}

function entry(shown, row) {
  const details = el("details", {}, el("summary", {}, ...shown.summary(row)));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) {
      details.append(el("div", { class: "inside" }, ...shown.body(row)));
    }
  });
  return el("li", {}, details);
}

function orders() {
  form.elements.order.replaceChildren(...Object.keys(view().orders).map((name) => el("option", {}, name)));
  form.elements.round.disabled = view() === views.users;
}

function note(text) {
  return el("span", { class: "interval" }, text);
}

function pairSummary(row) {
  return [strange(`User ${row.user}`), note(`round ${row.round}, ${SPLITS[row.split]}`),
          el("span", { class: "figure" }, `margin ${score(row.margin)}`)];
}

function pairBody(row) {
  const [chosen, rejected] = [data.texts[row.chosen], data.texts[row.rejected]];
  const button = el("button", { type: "button" }, "Show this user");
  button.addEventListener("click", () => go("users", row.user));
  return [
    el("div", { class: "sides" },
      side(`Chosen, ${score(row.better)}`, marked(chosen, rejected)),
      side(`Rejected, ${score(row.worse)}`, marked(rejected, chosen))),
    historyOf(row), ...(row.place < views.users.rows.length ? [button] : []),
  ];
}

function side(name, text) {
  return el("div", { class: "side" }, el("h3", {}, name), text);
}

function historyOf(row) {
  return el("details", { class: "values" }, el("summary", {}, "History in the prompt"),
    el("p", { class: "text", dir: "auto" }, data.texts[row.history]));
}

function userSummary(row) {
  const gain = row.gain == null ? "" : "gain " + points(row.gain);
  return [strange(`User ${row.user}`), note(SPLITS[row.split]), el("span", { class: "figure" }, gain)];
}

function userBody(row) {
  const sides = el("div", { class: "sides" }), lists = el("div");
  const choices = [row.first, row.last].map((chosen) => {
    const select = el("select", {}, ...data.variants.map(([name], n) => el("option", { value: n }, name)));
    select.value = chosen;
    return select;
  });
  const number = el("select", {}, ...row.lists.map(([, , value], n) =>
    el("option", { value: n }, `${n + 1}, NDCG@5 ${score(value)} at first`)));
  const update = () => {
    const [a, b] = choices.map((select) => Number(select.value));
    sides.replaceChildren(textOf(row, a, b), textOf(row, b, a));
    if (row.lists.length) lists.replaceChildren(...rankings(row.lists[Number(number.value)], [a, b]));
  };
  [...choices, number].forEach((select) => select.addEventListener("change", update));
  update();
  const pairs = views.pairs.rows.some((pair) => pair.user === row.user);
  const button = el("button", { type: "button" }, "Show this user's pairs");
  button.addEventListener("click", () => go("pairs", row.user));
  return [
    el("div", { class: "controls" }, el("label", {}, "Compare ", choices[0]), el("label", {}, "with ", choices[1])),
    sides,
    ...(row.lists.length ? listsOf(row, number, lists) : [el("p", { class: "muted" }, NO_LISTS)]),
    historyOf(row), ...(pairs ? [button] : []),
  ];
}

const NO_TEXT = "It reads no text of an LLM.";
const NO_LISTS = "Lists of train users are what re-rankers learn from; they are not re-ranked.";

function textOf(row, own, other) {
  const [name] = data.variants[own];
  const [text, against] = [own, other].map((n) => data.texts[row.texts[n]]);
  return side(name, text == null ? el("p", { class: "muted" }, NO_TEXT) : marked(text, against ?? text));
}

function listsOf(row, number, lists) {
  const values = row.values.map((value, n) => [n ? data.variants[n - 1][0] : data.initial, value]);
  const kept = row.lists.length < row.number ? ` (the first ${row.lists.length} of ${row.number})` : "";
  return [
    el("h3", {}, "NDCG@5 of the user"),
    el("dl", { class: "figures" }, ...values.filter(([, value]) => value != null).map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, score(value))))),
    el("div", { class: "controls" }, el("label", {}, `List${kept} `, number)),
    lists,
  ];
}

function rankings([titles, labels, value, ranked], chosen) {
  const first = titles.map((_, place) => place);
  const columns = [[data.initial, [first, value]]];
  for (const n of new Set(chosen)) columns.push([data.variants[n][0], ranked[n]]);
  return [el("div", { class: "lists" }, ...columns.filter(([, ranking]) => ranking).map(
    ([name, [places, reached]]) => el("div", {},
      el("h3", {}, name, " ", note(score(reached))),
      el("ol", {}, ...places.map((place, rank) => listed(data.titles[titles[place]], labels[place], place - rank))))))];
}

// A title of a list: `rise` says how many places it went up.
function listed(title, label, rise) {
  const positive = label >= 1;
  const made = el("li", positive ? { class: "positive" } : {}, strange(title));
  if (positive) made.append(el("span", { class: "star", role: "img", "aria-label": "positive" }, "★"));
  if (rise) {
    const words = `${rise > 0 ? "up" : "down"} ${Math.abs(rise)}`;
    made.append(el("span", { class: "move", role: "img", "aria-label": words }, (rise > 0 ? "▲" : "▼") + Math.abs(rise)));
  }
  return made;
}

// A text with the words marked that the other one lacks.
function marked(text, other) {
  const parts = text.split(/(\s+)/); // words at even places, what is between them at odd ones
  const own = parts.filter((_, n) => n % 2 === 0);
  const common = inBoth(own, other.split(/\s+/));
  const made = el("p", { class: "text", dir: "auto" });
  let run = "", isMarked = false;
  const flush = () => { if (run) made.append(isMarked ? el("mark", {}, run) : run); run = ""; };
  parts.forEach((part, n) => {
    const differs = n % 2 ? isMarked && n + 1 < parts.length && !common[(n + 1) / 2] && !part.includes("\n")
                          : part !== "" && !common[n / 2];
    if (differs !== isMarked) { flush(); isMarked = differs; }
    run += part;
  });
  flush();
  return made;
}

// For each of `own` whether it is in the longest common subsequence with `other`.
function inBoth(own, other) {
  const [rows, columns] = [own.length, other.length];
  if (rows * columns > MOST_CELLS) return own.map(() => true);
  const width = columns + 1;
  const longest = new Uint16Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i--) {
    for (let j = columns - 1; j >= 0; j--) {
      longest[i * width + j] = own[i] === other[j]
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const common = own.map(() => false);
  for (let i = 0, j = 0; i < rows && j < columns;) {
    if (own[i] === other[j]) { common[i] = true; i++; j++; }
    else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i++;
    else j++;
  }
  return common;
}

function go(name, user) {
  form.elements.view.value = name;
  form.elements.words.value = user;
  form.elements.split.value = form.elements.round.value = "";
  orders();
  search();
  list.querySelector("summary")?.focus();
}

function turn(by) {
  page += by;
  show();
  list.querySelector("summary")?.focus();
}

// Arrow keys go from entry to entry; Tab, Enter and Space do what they do everywhere.
function move(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const summary = event.target.closest("#browser-entries > li > details > summary");
  if (!step || !summary) return;
  const all = [...list.querySelectorAll(":scope > li > details > summary")];
  all[all.indexOf(summary) + step]?.focus();
  event.preventDefault();
}

function begin() {
  read();
  app.hidden = false;
  orders();
  search();
  list.querySelector("details")?.toggleAttribute("open", true);
  let waiting;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    if (event.target.name === "view") orders();
    waiting = setTimeout(search, event.target.name === "words" ? 120 : 0);
  });
  back.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  list.addEventListener("keydown", move);
}

begin();
})();
