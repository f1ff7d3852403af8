// The pictures of one try, step by step: columns, charts under them, and buttons to go through the steps.

import { GrowingChart, sparkline } from "./charts.js";
import { byId, clamp, el, labelOf, shown } from "./dom.js";

const FRAME_MS = 80;

const KINDS = [
  ["losses", "loss", {}],
  ["norms", "gradient", {}],
  ["cosines", "cosine", { zero: true }],
];

// A try as the page stores it: the request, the server's first event, and every step.
export class Recording {
  constructor(request) {
    this.request = request;
    this.start = null;
    this.frames = [];
    this.seconds = null; // set when it is finished
    this.stopped = false; // no further steps will arrive
    this.ranges = { losses: {}, norms: {}, cosines: {} };
    this.series = [];
  }

  begin(start) {
    this.start = start;
    this.series = start.columns.map(() => ({ losses: {}, norms: {}, cosines: {} }));
  }

  add(step) {
    this.frames.push(step);
    if (step.index >= this.start.steps) return; // the finished pictures have no losses
    step.views.forEach((view, column) => {
      for (const [kind] of KINDS) {
        for (const [name, value] of Object.entries(view[kind])) {
          const values = (this.series[column][kind][name] ??= new Array(step.index).fill(null));
          values.push(value);
          if (value === null) continue;
          const range = (this.ranges[kind][name] ??= kind === "cosines" ? [-1, 1] : [value, value]);
          range[0] = Math.min(range[0], kind === "norms" ? 0 : value);
          range[1] = Math.max(range[1], value);
        }
      }
    });
  }

  // The scores of a column at a step, or the latest ones before it.
  scores(column, at) {
    for (let i = at; i >= 0; i--) {
      const found = this.frames[i].views[column].scores;
      if (found) return { values: found, fresh: i === at };
    }
    return { values: {}, fresh: false };
  }

  get pictures() {
    return this.frames.length ? this.frames[this.frames.length - 1].views.map((view) => view.picture) : [];
  }
}

// The columns of one recording. Can draw any of its steps.
export class Columns {
  constructor(node, recording, { charts = true } = {}) {
    this.node = node;
    this.recording = recording;
    const { start } = recording;
    const small = Math.max(...start.size) <= 128;
    node.style.setProperty("--count", start.columns.length);
    this.columns = start.columns.map((column, i) => this._column(column, i, small, charts));
    node.replaceChildren(...this.columns.map((column) => column.node));
  }

  _column(column, i, small, charts) {
    const { start } = this.recording;
    const base = el("img", { alt: "", class: small ? "pixels" : "" });
    const heat = el("img", { alt: "", class: small ? "heat pixels" : "heat", hidden: true });
    const lines = Object.entries(column.weights).map(([name, values]) => ({
      name,
      colour: start.colours[name],
      values,
    }));
    const weights = el("div", { class: "weights" });
    if (lines.length) {
      weights.append(
        sparkline(lines),
        el("p", {}, ...lines.map((line) => el("span", { class: "value", colour: line.colour }, line.name))),
      );
    } else weights.append(el("p", { class: "hint" }, "the model alone, same noise"));
    const shownCharts = charts && i > 0 ? KINDS.map(([, title, options]) => new GrowingChart(title, start.steps, options)) : [];
    const scores = el("dl", { class: "scores" });
    const node = el(
      "article",
      { class: "column", colour: column.colour },
      el("h2", { title: column.name }, labelOf(column.name)),
      weights,
      el("figure", {}, base, heat),
      scores,
      ...shownCharts.map((chart) => chart.node),
    );
    return { node, base, heat, scores, charts: shownCharts, name: column.name };
  }

  show(at, overlay) {
    const { recording } = this;
    const frame = recording.frames[at];
    if (!frame) return;
    const title = at >= recording.start.steps ? "finished" : `step ${at + 1}`;
    this.columns.forEach((column, i) => {
      const view = frame.views[i];
      const map = overlay === "-" ? null : (view.maps[overlay] ?? (overlay ? null : view.maps[""]));
      column.base.src = view.picture;
      column.base.alt = `${column.name}, ${title}: ${recording.request.prompt}`;
      column.base.classList.toggle("under", Boolean(map));
      column.heat.hidden = !map;
      if (map) column.heat.src = map;
      this._scores(column, i, at);
      KINDS.forEach(([kind], k) => {
        const lines = Object.entries(recording.series[i][kind]).map(([name, values]) => ({
          name,
          colour: recording.start.colours[name] ?? recording.start.colours[""],
          values,
        }));
        const chart = column.charts[k];
        if (!chart) return;
        chart.node.classList.toggle("empty", !lines.length);
        chart.set(lines, recording.ranges[kind], Math.min(at, recording.start.steps - 1));
      });
    });
  }

  _scores(column, i, at) {
    const { values, fresh } = this.recording.scores(i, at);
    column.scores.classList.toggle("stale", !fresh);
    const known = this.recording.start.scores.filter((score) => score.name in values);
    column.scores.replaceChildren(
      ...known.flatMap((score) => {
        const value = values[score.name];
        const meter = el("span", { class: "meter" });
        if (score.low !== null && score.high !== null) {
          const share = (value - score.low) / (score.high - score.low);
          meter.style.setProperty("--share", clamp(share, 0, 1));
        } else meter.hidden = true;
        return [el("dt", { title: score.meaning }, score.name), el("dd", {}, shown(value), meter)];
      }),
    );
  }
}

// The stage: one recording, the current step, and the playback controls.
export class Stage {
  constructor() {
    this.recording = null;
    this.at = 0;
    this.live = true; // show each step as it arrives
    this.timer = 0;
    this.position = byId("position");
    byId("back").addEventListener("click", () => this.go(this.at - 1));
    byId("forth").addEventListener("click", () => this.go(this.at + 1));
    byId("play").addEventListener("click", () => this.toggle());
    this.position.addEventListener("input", () => this.go(Number(this.position.value)));
    byId("overlay").addEventListener("change", () => this.show());
    document.addEventListener("keydown", (event) => this._key(event));
  }

  open(recording) {
    this.pause();
    this.recording = recording;
    this.live = !recording.stopped;
    const { start } = recording;
    this.columns = new Columns(byId("columns"), this.recording);
    this.position.max = start.steps;
    byId("transport").hidden = false;
    byId("share").hidden = false;
    const overlay = byId("overlay");
    const chosen = overlay.value;
    overlay.replaceChildren(
      el("option", { value: "-" }, "no overlay"),
      el("option", { value: "" }, "where guidance pulls"),
      ...start.objectives.map((name) => el("option", { value: name }, `where ${name} pulls`)),
    );
    overlay.value = chosen;
    if (overlay.selectedIndex < 0) overlay.selectedIndex = 0;
    this.at = recording.frames.length - 1;
    this.show();
  }

  arrived() {
    if (this.live) this.at = this.recording.frames.length - 1;
    this.show();
  }

  ended() {
    this.live = false;
    this.show();
  }

  go(at) {
    if (!this.recording) return;
    this.pause();
    this.at = clamp(at, 0, this.recording.frames.length - 1);
    this.show();
  }

  get playing() {
    return this.live || this.timer !== 0;
  }

  pause() {
    this.live = false;
    clearInterval(this.timer);
    this.timer = 0;
  }

  toggle() {
    if (!this.recording) return;
    if (this.playing) {
      this.pause();
    } else {
      const last = () => this.recording.frames.length - 1;
      if (this.at >= last() && this.recording.stopped) this.at = 0;
      this.timer = setInterval(() => {
        if (this.at < last()) this.at += 1;
        else if (this.recording.stopped) this.pause();
        else {
          this.pause();
          this.live = true;
        }
        this.show();
      }, FRAME_MS);
    }
    this.show();
  }

  show() {
    const { recording } = this;
    if (!recording) return;
    this.columns.show(this.at, byId("overlay").value);
    this.position.value = this.at;
    const total = recording.start.steps;
    byId("where").textContent = this.at >= total ? "finished" : `step ${this.at + 1} of ${total}`;
    this.position.setAttribute("aria-valuetext", byId("where").textContent);
    const play = byId("play");
    play.textContent = this.playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    byId("back").disabled = this.at === 0;
    byId("forth").disabled = this.at >= recording.frames.length - 1;
  }

  _key(event) {
    const own = event.key === " " ? "input, button, summary" : "input:not([type=checkbox])"; // these handle the keys themselves
    if (event.target.closest(`${own}, select, dialog, [role=slider]`)) return;
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined) this.go(this.at + step);
    else if (event.key === " ") this.toggle();
    else return;
    event.preventDefault();
  }
}
