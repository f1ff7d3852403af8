// The tries of this visit. A click on a thumbnail opens a try again. Two can be pinned and compared step by step.

import { byId, el, labelOf } from "./dom.js";
import { Columns } from "./stage.js";

const KEPT = 24;

function title(recording) {
  const { request } = recording;
  const schedules = request.schedules.map(labelOf).join(", ");
  return `${request.prompt} · ${schedules} · seed ${request.seed} · scale ${request.scale} · ${request.steps} steps`;
}

export class Tries {
  constructor(onOpen) {
    this.onOpen = onOpen;
    this.list = [];
    this.pinned = [];
    this.current = null;
  }

  add(recording) {
    this.list.unshift(recording);
    const spare = this.list.filter((each) => !this.pinned.includes(each));
    if (this.list.length > KEPT) this.list.splice(this.list.indexOf(spare[spare.length - 1]), 1);
    this.current = recording;
    this.draw();
  }

  open(recording) {
    this.current = recording;
    this.draw();
    this.onOpen(recording);
  }

  _pin(recording) {
    if (this.pinned.includes(recording)) this.pinned = this.pinned.filter((each) => each !== recording);
    else this.pinned = [...this.pinned, recording].slice(-2);
    this.draw();
    this._compare();
  }

  draw() {
    byId("history").hidden = this.list.length === 0;
    byId("tries").replaceChildren(...this.list.map((recording) => this._item(recording)));
  }

  _item(recording) {
    const pinned = this.pinned.includes(recording);
    const pictures = recording.pictures.map((source) => el("img", { src: source, alt: "", class: "pixels" }));
    const name = title(recording);
    return el(
      "li",
      { class: recording === this.current ? "try current" : "try" },
      el(
        "button",
        { type: "button", class: "open", "aria-label": `Open: ${name}`, onclick: () => this.open(recording) },
        el("span", { class: "thumbnails" }, ...pictures),
        el("span", { class: "caption" }, name),
      ),
      el(
        "button",
        {
          type: "button",
          class: "pin",
          "aria-pressed": pinned ? "true" : "false",
          "aria-label": `Pin: ${name}`,
          onclick: () => this._pin(recording),
        },
        pinned ? "Pinned" : "Pin",
      ),
    );
  }

  _compare() {
    const section = byId("versus");
    section.hidden = this.pinned.length < 2;
    if (section.hidden) {
      section.replaceChildren();
      return;
    }
    const rows = this.pinned.map((recording) => {
      const columns = el("div", { class: "columns small" });
      const node = el("div", {}, el("h3", {}, title(recording)), columns);
      return { node, recording, columns: new Columns(columns, recording, { charts: false }) };
    });
    const where = el("output");
    const slider = el("input", { type: "range", min: 0, max: 1000, value: 1000, "aria-label": "Progress of both tries" });
    const show = () => {
      const share = Number(slider.value) / 1000;
      rows.forEach(({ recording, columns }) => columns.show(Math.round(share * (recording.frames.length - 1)), "-"));
      where.textContent = share === 1 ? "finished" : `progress ${share.toFixed(2)}`;
      slider.setAttribute("aria-valuetext", where.textContent);
    };
    slider.addEventListener("input", show);
    section.replaceChildren(
      el("h2", {}, "Pinned"),
      ...rows.map((row) => row.node),
      el("div", { class: "row transport" }, slider, where),
    );
    show();
  }
}
