(() => {
"use strict";
const specs = JSON.parse(document.getElementById("charts").textContent);
const scheme = window.matchMedia("(prefers-color-scheme: dark)");

function theme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const ink = value("--ink"), muted = value("--muted"), line = value("--line");
  const font = getComputedStyle(document.body).fontFamily;
  const text = { labelColor: ink, titleColor: ink, labelFont: font, titleFont: font };
  return {
    background: "transparent",
    axis: { ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
            gridColor: line, domainColor: muted, tickColor: muted },
    legend: { ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
    view: { stroke: null },
    range: { category: ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"].map(value) },
    style: {
      dot: { color: value("--c1") },
      bars: { color: value("--c1") },
      curve: { color: value("--c1"), stroke: value("--c1") },
      interval: { color: value("--c1"), strokeWidth: 2.5 },
      reference: { color: muted, strokeDash: [4, 3] },
    },
  };
}

function draw() {
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: theme() };
  for (const [id, spec] of Object.entries(specs)) {
    const place = document.getElementById(id);
    vegaEmbed(place, spec, options).catch((error) => {
      place.textContent = "This chart could not be drawn: " + error.message;
    });
  }
}

scheme.addEventListener("change", draw);
draw();
})();
