// Small line charts. A line is scaled to the range that its name has over all columns.

import { el, shown, svg } from "./dom.js";

const WIDTH = 200;

function path(values, total, low, high, height) {
  const span = high - low || 1;
  let line = "";
  let pen = false;
  values.forEach((value, i) => {
    if (value === null || value === undefined) {
      pen = false;
      return;
    }
    const x = (i / Math.max(1, total - 1)) * WIDTH;
    const y = 3 + (1 - (value - low) / span) * (height - 6);
    line += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${pen ? "" : "h0"}`;
    pen = true;
  });
  return line;
}

const box = (height, ...children) =>
  svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...children);

const same = (a, b) => a.values.every((value, i) => value === b.values[i]);

// The weights of a schedule over progress. lines: [{colour, values}]. A line that covers another one is dashed, so that both are visible.
export function sparkline(lines, height = 28) {
  const all = lines.flatMap((line) => line.values);
  const low = Math.min(0, ...all);
  const high = Math.max(1, ...all);
  return box(
    height,
    ...lines.map((line, i) =>
      svg("path", {
        class: lines.slice(0, i).some((below) => same(below, line)) ? "line dashed" : "line",
        colour: line.colour,
        d: path(line.values, line.values.length, low, high, height),
      }),
    ),
  );
}

// A chart that is extended step by step. set() redraws it; ranges: name -> [low, high].
export class GrowingChart {
  constructor(title, total, { height = 44, zero = false } = {}) {
    this.total = total;
    this.height = height;
    this.values = el("span", { class: "values" });
    this.lines = svg("g");
    this.cursor = svg("path", { class: "cursor" });
    const middle = zero ? svg("path", { class: "zero", d: `M0 ${height / 2}H${WIDTH}` }) : null;
    this.node = el(
      "div",
      { class: "chart" },
      el("p", {}, el("span", { class: "title" }, title), " ", this.values),
      box(height, middle, this.lines, this.cursor),
    );
  }

  set(lines, ranges, at) {
    this.lines.replaceChildren(
      ...lines.map(({ name, colour, values }) =>
        svg("path", { class: "line", colour, d: path(values, this.total, ...(ranges[name] ?? [0, 1]), this.height) }),
      ),
    );
    this.values.replaceChildren(
      ...lines.map(({ name, colour, values }) =>
        el("span", { class: "value", colour }, `${name.replace("|", "·")} ${shown(values[at])}`),
      ),
    );
    const x = ((at / Math.max(1, this.total - 1)) * WIDTH).toFixed(1);
    this.cursor.setAttribute("d", at < this.total ? `M${x} 0V${this.height}` : "");
  }
}
