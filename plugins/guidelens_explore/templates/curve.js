// Draw the weight of each objective over progress: drag the points, or move them with the arrow keys.

import { clamp, download, el, svg } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 170;
const LEFT = 30;
const RIGHT = 10;
const TOP = 12;
const BOTTOM = 22;
const STEP = 0.05;
const FINE = 0.01;

const rounded = (value) => Math.round(value * 1000) / 1000;

// Leave out points that are close to the line between their neighbours (Ramer, Douglas and Peucker).
export function simplified(points, tolerance = 0.01) {
  if (points.length < 3) return points;
  const [first, last] = [points[0], points[points.length - 1]];
  let worst = 0;
  let at = 0;
  points.forEach(([x, y], i) => {
    const expected = first[1] + ((last[1] - first[1]) * (x - first[0])) / (last[0] - first[0] || 1);
    if (Math.abs(y - expected) > worst) [worst, at] = [Math.abs(y - expected), i];
  });
  if (worst <= tolerance) return [first, last];
  return [...simplified(points.slice(0, at + 1), tolerance).slice(0, -1), ...simplified(points.slice(at), tolerance)];
}

// The schedule's spelling of the curves; null if no objective would guide.
export function spelled(curves) {
  const parts = Object.entries(curves)
    .filter(([, points]) => points.some(([, weight]) => weight !== 0))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, points]) => `${name}=${points.map(([at, weight]) => `${weight}@${at}`).join("/")}`);
  return parts.length ? `curve:${parts.join(",")}` : null;
}

export class CurveEditor {
  // onChange(spec) is called at every change, onKeep(spec) when the user keeps the curve.
  constructor(node, { onChange, onKeep, weightsOf }) {
    this.node = node;
    this.onChange = onChange;
    this.weightsOf = weightsOf;
    this.curves = {};
    this.colours = {};
    this.active = "";
    this.top = 1;
    this.plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "plot", role: "group", "aria-label": "Weights over progress" });
    this.tabs = el("div", { class: "chips", role: "group", "aria-label": "Objective to draw" });
    this.from = el("select", { "aria-label": "Start from a schedule", onchange: () => this._startFrom() });
    this.spec = el("code", { class: "spec" });
    node.append(
      this.tabs,
      this.plot,
      el("p", { class: "hint" }, "Drag points, click to add one, double-click to remove one. Keys: arrows move, Enter adds, Delete removes."),
      el(
        "div",
        { class: "row" },
        this.from,
        el("button", { type: "button", onclick: () => onKeep(this.value) }, "Keep"),
        el("button", { type: "button", onclick: () => this._save() }, "Save as file"),
      ),
      this.spec,
    );
    this.plot.addEventListener("pointerdown", (event) => this._press(event));
  }

  get value() {
    return spelled(this.curves);
  }

  // Offer these objectives: name -> number of the colour. Curves of objectives that remain are kept.
  offer(colours, schedules) {
    const names = Object.keys(colours).filter(Boolean).sort();
    this.colours = colours;
    const before = this.curves;
    this.curves = Object.fromEntries(names.map((name) => [name, before[name] ?? [[0, 0], [1, 0]]]));
    if (!names.some((name) => before[name])) {
      const [first, last] = names.includes("cap") && names.includes("itc") ? ["cap", "itc"] : [names[0], names[names.length - 1]];
      this.curves[last] = [[0, 0], [1, 1]];
      this.curves[first] = [[0, 1], [1, names.length > 1 ? 0 : 1]];
    }
    if (!names.includes(this.active)) this.active = names.includes("itc") ? "itc" : names[0];
    this.from.replaceChildren(
      el("option", { value: "" }, "Start from …"),
      ...schedules.map((name) => el("option", {}, name)),
    );
    this.tabs.replaceChildren(
      ...names.map((name) =>
        el(
          "label",
          { class: "chip", colour: colours[name] },
          el("input", {
            type: "radio",
            name: "objective",
            checked: name === this.active,
            onchange: () => {
              this.active = name;
              this.draw();
            },
          }),
          el("span", {}, el("i", { class: "dot" }), name),
        ),
      ),
    );
    this.draw();
  }

  async _startFrom() {
    const name = this.from.value;
    if (!name) return;
    const { weights } = await this.weightsOf(name);
    for (const objective of Object.keys(this.curves)) {
      const values = weights[objective];
      const points = values?.map((weight, i) => [rounded(i / (values.length - 1)), rounded(weight)]);
      this.curves[objective] = points ? simplified(points) : [[0, 0], [1, 0]];
    }
    this.from.value = "";
    this._changed();
  }

  _save() {
    if (this.value) download("curve.json", `${JSON.stringify(this.curves)}\n`, "application/json");
  }

  _changed() {
    this.draw();
    this.onChange(this.value);
  }

  _x = (at) => LEFT + at * (WIDTH - LEFT - RIGHT);

  _y = (weight) => TOP + (1 - weight / this.top) * (HEIGHT - TOP - BOTTOM);

  _place(event) {
    const box = this.plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    const y = ((event.clientY - box.top) / box.height) * HEIGHT;
    const at = (x - LEFT) / (WIDTH - LEFT - RIGHT);
    const weight = (1 - (y - TOP) / (HEIGHT - TOP - BOTTOM)) * this.top;
    return [clamp(Math.round(at * 100) / 100, 0, 1), clamp(Math.round(weight * 100) / 100, 0, this.top)];
  }

  draw() {
    this.top = Math.max(1, ...Object.values(this.curves).flatMap((points) => points.map(([, weight]) => weight)));
    const focused = this.plot.contains(document.activeElement) ? document.activeElement.dataset.index : null;
    const line = (name) => {
      const points = this.curves[name];
      const whole = [[0, points[0][1]], ...points, [1, points[points.length - 1][1]]];
      return svg("path", {
        class: name === this.active ? "line active" : "line",
        colour: this.colours[name],
        d: `M${whole.map(([at, weight]) => `${this._x(at).toFixed(1)} ${this._y(weight).toFixed(1)}`).join("L")}`,
      });
    };
    const names = Object.keys(this.curves);
    const label = (x, y, text, anchor = "middle") => svg("text", { x, y, "text-anchor": anchor }, text);
    this.plot.replaceChildren(
      svg("path", { class: "grid", d: `M${LEFT} ${this._y(0)}H${WIDTH - RIGHT}M${LEFT} ${this._y(this.top)}H${WIDTH - RIGHT}` }),
      label(LEFT - 12, this._y(0) + 4, "0", "end"),
      label(LEFT - 12, this._y(this.top) + 4, `${rounded(this.top)}`, "end"),
      label(LEFT, HEIGHT - 6, "noise", "start"),
      label(WIDTH - RIGHT, HEIGHT - 6, "picture", "end"),
      ...names.filter((name) => name !== this.active).map(line),
      ...(this.active ? [line(this.active)] : []),
      ...(this.curves[this.active] ?? []).map((point, i) => this._handle(point, i)),
    );
    if (focused !== null) this.plot.querySelector(`[data-index="${focused}"]`)?.focus();
    this.spec.textContent = this.value ?? "every weight is 0";
  }

  _handle([at, weight], i) {
    const count = this.curves[this.active].length;
    return svg(
      "g",
      {
        role: "slider",
        tabindex: 0,
        class: "handle",
        colour: this.colours[this.active],
        dataset: { index: i },
        "aria-label": `${this.active}, point ${i + 1} of ${count}`,
        "aria-orientation": "vertical",
        "aria-valuemin": 0,
        "aria-valuemax": this.top,
        "aria-valuenow": weight,
        "aria-valuetext": `weight ${weight} at progress ${at}`,
        onkeydown: (event) => this._key(event, i),
        ondblclick: () => this._remove(i),
      },
      svg("circle", { class: "hit", cx: this._x(at), cy: this._y(weight), r: 14 }),
      svg("circle", { class: "knob", cx: this._x(at), cy: this._y(weight), r: 6 }),
    );
  }

  _move(i, [at, weight]) {
    const points = this.curves[this.active];
    const low = i > 0 ? points[i - 1][0] : 0;
    const high = i < points.length - 1 ? points[i + 1][0] : 1;
    points[i] = [rounded(clamp(at, low, high)), rounded(Math.max(0, weight))];
    this._changed();
  }

  _add(point) {
    const points = this.curves[this.active];
    const i = points.findIndex(([at]) => at > point[0]);
    const where = i < 0 ? points.length : i;
    points.splice(where, 0, point);
    return where;
  }

  _remove(i) {
    const points = this.curves[this.active];
    if (points.length < 2) return;
    points.splice(i, 1);
    this._changed();
    this.plot.querySelector(`[data-index="${Math.min(i, points.length - 1)}"]`)?.focus();
  }

  _press(event) {
    if (!this.active || event.button !== 0) return;
    event.preventDefault();
    const handle = event.target.closest(".handle");
    const i = handle ? Number(handle.dataset.index) : this._add(this._place(event));
    if (!handle) this._changed();
    this.plot.querySelector(`[data-index="${i}"]`)?.focus();
    this.plot.setPointerCapture(event.pointerId);
    let moved = false;
    const move = (next) => {
      moved = true;
      this._move(i, this._place(next));
    };
    const end = () => {
      this.plot.removeEventListener("pointermove", move);
      if (!moved && handle) this._maybeDouble(i);
    };
    this.plot.addEventListener("pointermove", move);
    this.plot.addEventListener("pointerup", end, { once: true });
    this.plot.addEventListener("pointercancel", end, { once: true });
  }

  // Pointer capture and redrawing keep dblclick from reaching a point: two presses within 350 ms remove it.
  _maybeDouble(i) {
    const now = performance.now();
    if (this._last && this._last.i === i && now - this._last.time < 350) {
      this._last = null;
      this._remove(i);
    } else this._last = { i, time: now };
  }

  _key(event, i) {
    const size = event.shiftKey ? FINE : STEP;
    const [at, weight] = this.curves[this.active][i];
    const moves = {
      ArrowUp: [at, Math.min(this.top, weight + size)],
      ArrowDown: [at, weight - size],
      ArrowLeft: [at - size, weight],
      ArrowRight: [at + size, weight],
      PageUp: [at, Math.min(this.top, weight + 5 * size)],
      PageDown: [at, weight - 5 * size],
      Home: [at, 0],
      End: [at, this.top],
    };
    if (event.key in moves) this._move(i, moves[event.key]);
    else if (event.key === "Delete" || event.key === "Backspace") this._remove(i);
    else if (event.key === "Enter") {
      const points = this.curves[this.active];
      const [next, other] = points[i + 1] ?? [1, weight];
      const where = this._add([rounded((at + next) / 2), rounded((weight + other) / 2)]);
      this._changed();
      this.plot.querySelector(`[data-index="${where}"]`)?.focus();
    } else return;
    event.preventDefault();
  }
}
