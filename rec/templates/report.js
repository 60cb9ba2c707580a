// Charts: each is drawn when it comes near the window. Their colours are the page's variables, so
// that they follow it from light to dark, and to paper, without being drawn anew.
(() => {
"use strict";
const specs = JSON.parse(document.getElementById("charts").textContent);
const drawn = new Set();
// What a column of values is called; others are called by their own names.
const WORDS = { valid_ndcg: "Validation NDCG@5", train_loss: "Training loss", kl: "KL",
                log_ratio: "Log-ratio" };

function theme() {
  const value = (name) => `var(${name})`;
  const ink = value("--ink"), muted = value("--muted"), line = value("--line");
  const font = getComputedStyle(document.body).fontFamily;
  const text = { labelColor: ink, titleColor: ink, labelFont: font, titleFont: font,
                 labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
  return {
    background: "transparent",
    axis: { ...text, gridColor: line, domainColor: muted, tickColor: muted },
    legend: text,
    view: { stroke: null },
    range: { category: ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"].map(value) },
    style: {
      dot: { color: value("--c1") },
      bars: { color: value("--c1") },
      curve: { color: value("--c1"), stroke: value("--c1") },
      reference: { color: muted, strokeDash: [4, 3] },
    },
  };
}

function draw(place) {
  drawn.add(place);
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: theme(),
                    defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  const spec = { ...specs[place.id], description: caption(place) }; // its accessible name
  vegaEmbed(place, spec, options).catch((error) => {
    place.textContent = "This chart could not be drawn: " + error.message;
  });
}

function caption(place) {
  return place.parentElement.querySelector("figcaption").textContent;
}

function heading(name) {
  return WORDS[name] ?? name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
}

function table(spec) {
  const rows = Object.values(spec.datasets).reduce((a, b) => (b.length > a.length ? b : a), []);
  const made = document.createElement("table");
  const add = (section, values, tag) => {
    const line = section.insertRow();
    for (const value of values) {
      const cell = document.createElement(tag);
      cell.textContent = typeof value === "number" ? Number(value.toPrecision(5)) : value ?? "–";
      if (tag === "th") cell.scope = "col";
      line.append(cell);
    }
  };
  add(made.createTHead(), Object.keys(rows[0] ?? {}).map(heading), "th");
  const body = made.createTBody();
  for (const row of rows) add(body, Object.values(row), "td");
  return made;
}

const places = [...document.querySelectorAll(".chart")];
const watch = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      watch.unobserve(target);
      draw(target);
    }
  }
}, { rootMargin: "400px" });
for (const place of places) {
  place.style.minHeight = `${(specs[place.id].height ?? 0) + 60}px`; // so that nothing jumps later
  watch.observe(place);
}
window.addEventListener("beforeprint", () => places.filter((p) => !drawn.has(p)).forEach(draw));

for (const details of document.querySelectorAll(".values")) {
  details.hidden = false;
  details.addEventListener("toggle", () => {
    if (details.open && !details.querySelector("table")) {
      const holder = document.createElement("div"), place = details.parentElement.querySelector(".chart");
      holder.className = "scroll history";
      holder.tabIndex = 0;
      holder.role = "region";
      holder.ariaLabel = "Values: " + caption(place);
      holder.append(table(specs[place.id]));
      details.append(holder);
    }
  });
}
})();
