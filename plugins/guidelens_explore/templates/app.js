// The page. Controls make a request, the server draws it, the stage shows it, and finished tries are kept.

import { sparkline } from "./charts.js";
import { CurveEditor } from "./curve.js";
import { byId, debounced, download, el, labelOf } from "./dom.js";
import { ask, follow } from "./requests.js";
import { Recording, Stage } from "./stage.js";
import { Tries } from "./tries.js";

const SOON = 120; // milliseconds after a slider moved
const LATER = 700; // milliseconds after a key press in a text field
const KEPT = "guidelens-explore"; // storage key of the latest request, restored when the page is reloaded

const options = await ask("/api/options");
const stage = new Stage();
const chosen = new Map(); // schedule -> its chip
let running = null; // { control, recording }
const kept = new Set(); // curves that the user kept, while the editor changes
let drawn = null; // the schedule in the curve editor, if it is used

// -- controls

const number = (id) => Number(byId(`${id}-number`).value);

function request() {
  return {
    prompt: byId("prompt").value.trim(),
    schedules: [...chosen].filter(([, chip]) => chip.input.checked).map(([name]) => name),
    seed: number("seed"),
    steps: number("steps"),
    scale: number("scale"),
    sampler: byId("sampler").value,
    options: byId("options").value.trim(),
    generator: byId("generator").value.trim(),
    guidance: byId("guidance").value.trim(),
  };
}

function chipOf({ name, summary, colour, colours, weights }, checked, removable) {
  const input = el("input", { type: "checkbox", checked, onchange: () => scheduleChanged() });
  const lines = Object.entries(weights).map(([objective, values]) => ({ colour: colours[objective], values }));
  const node = el(
    "label",
    { class: "chip", title: summary || name, colour },
    input,
    el("span", {}, el("i", { class: "dot" }), el("b", {}, labelOf(name)), sparkline(lines, 16)),
  );
  if (removable) {
    node.lastChild.append(
      el(
        "button",
        {
          type: "button",
          class: "remove",
          "aria-label": `Remove ${labelOf(name)}`,
          onclick: (event) => {
            event.preventDefault();
            removeSchedule(name);
          },
        },
        "×",
      ),
    );
  }
  return { node, input };
}

function addSchedule(known, { checked = true, removable = true, before = null } = {}) {
  if (chosen.has(known.name)) {
    chosen.get(known.name).input.checked = true;
    return;
  }
  const chip = chipOf(known, checked, removable);
  chosen.set(known.name, chip);
  byId("schedules").insertBefore(chip.node, before);
}

function removeSchedule(name) {
  chosen.get(name)?.node.remove();
  chosen.delete(name);
  if (name === drawn) drawn = null;
  scheduleChanged();
}

function scheduleChanged() {
  const checked = [...chosen.values()].filter((chip) => chip.input.checked);
  const most = options.limits.schedules;
  byId("schedule-problem").textContent =
    checked.length === 0 ? "Choose at least one schedule." : checked.length > most ? `Choose at most ${most}.` : "";
  if (checked.length && checked.length <= most) soon();
  else stop();
}

const weightsOf = (schedule) => ask("/api/schedule", { schedule });

async function addSpelled() {
  const spec = byId("spec").value.trim();
  if (!spec) return;
  try {
    addSchedule(await weightsOf(spec));
    byId("spec").value = "";
    scheduleChanged();
  } catch (error) {
    byId("schedule-problem").textContent = error.message;
  }
}

// Replace the editor's previous curve by its current one.
const useCurve = debounced(SOON, async (spec) => {
  if (spec === drawn) return;
  const known = spec ? await weightsOf(spec) : null;
  const old = drawn && chosen.get(drawn)?.node;
  if (known) addSchedule(known, { before: old?.nextSibling ?? null });
  if (drawn && drawn !== spec && !kept.has(drawn)) {
    chosen.get(drawn)?.node.remove();
    chosen.delete(drawn);
  }
  drawn = spec;
  scheduleChanged();
});

const editor = new CurveEditor(byId("curve"), {
  onChange: (spec) => useCurve(spec),
  onKeep: (spec) => {
    kept.add(spec);
    toggleCurve(false);
  },
  weightsOf,
});

function toggleCurve(open) {
  byId("curve").hidden = !open;
  byId("draw-curve").setAttribute("aria-expanded", String(open));
  if (open) useCurve(editor.value);
}

function bindSlider(id, onChange) {
  const range = byId(id);
  const field = byId(`${id}-number`);
  range.addEventListener("input", () => {
    field.value = range.value;
    onChange();
  });
  field.addEventListener("input", () => {
    range.value = field.value;
    if (field.value !== "" && field.checkValidity()) onChange();
  });
}

function setSlider(id, value) {
  byId(id).value = value;
  byId(`${id}-number`).value = value;
}

// Folded sections show a summary of their settings.
function summarise() {
  byId("models-now").textContent = `${byId("generator").value} · ${byId("guidance").value}`;
  byId("settings-now").textContent = `Scale ${number("scale")} · ${number("steps")} steps · seed ${number("seed")}`;
}

// -- drawing

function status(text) {
  byId("status").textContent = text;
}

// Progress of the drawing; null hides the bar.
function progress(share) {
  byId("bar").classList.toggle("on", share !== null);
  if (share !== null) byId("bar").value = share;
}

function note(texts) {
  byId("notes").append(...texts.map((text) => el("li", {}, text)));
  byId("notes").hidden = byId("notes").childElementCount === 0;
}

function failed(message) {
  byId("error").textContent = message;
  byId("error").hidden = false;
  status("");
}

function stop() {
  if (!running) return;
  const { control } = running;
  running = null;
  control.abort();
  idle();
}

function idle() {
  stage.ended();
  progress(null);
  byId("stop").disabled = true;
}

function onEvent(recording, name, data) {
  if (running?.recording !== recording) return;
  if (name === "waiting") {
    status(data.ahead === 0 ? "" : `Waiting: ${data.ahead} before this one.`);
  } else if (name === "loading") {
    status("Starting …");
  } else if (name === "start") {
    recording.begin(data);
    status("Drawing …");
    progress(0);
    editor.offer(data.colours, options.schedules.map((each) => each.name));
    byId("notes").replaceChildren();
    note(data.notes);
  } else if (name === "step") {
    recording.add(data);
    if (data.index === 0) stage.open(recording); // the previous pictures stay until then
    stage.arrived();
    progress(data.index / recording.start.steps);
    if (data.index === recording.start.steps) {
      note(Object.entries(data.errors).map(([metric, reason]) => `The metric ${metric} failed: ${reason}`));
    }
  } else if (name === "done") {
    recording.seconds = data.seconds;
    status(`Drawn in ${data.seconds} s.`);
    tries.add(recording);
  } else if (name === "error") failed(data.message);
}

async function draw() {
  stop();
  const asked = request();
  byId("error").hidden = true;
  if (!asked.prompt) {
    failed("Describe a picture first.");
    return;
  }
  summarise();
  sessionStorage.setItem(KEPT, JSON.stringify(asked));
  const control = new AbortController();
  const recording = new Recording(asked);
  running = { control, recording };
  byId("stop").disabled = false;
  try {
    await follow("/api/draw", asked, control.signal, (name, data) => onEvent(recording, name, data));
  } catch (error) {
    if (error.name !== "AbortError" && running?.recording === recording) failed(error.message);
  } finally {
    recording.stopped = true;
    if (running?.recording === recording) {
      running = null;
      idle();
    }
  }
}

// Stop the running drawing at once. Start the new one after a pause in the input.
const soonDraw = debounced(SOON, draw);
const laterDraw = debounced(LATER, draw);

function soon() {
  stop();
  soonDraw();
}

function later() {
  stop();
  laterDraw();
}

// -- open a try again, and share it

async function setControls(asked) {
  byId("prompt").value = asked.prompt;
  for (const id of ["seed", "steps", "scale"]) setSlider(id, asked[id]);
  for (const id of ["sampler", "options", "generator", "guidance"]) byId(id).value = asked[id] ?? "";
  for (const name of asked.schedules) if (!chosen.has(name)) addSchedule(await weightsOf(name));
  for (const [name, chip] of chosen) chip.input.checked = asked.schedules.includes(name);
  byId("schedule-problem").textContent = "";
  byId("error").hidden = true;
  summarise();
}

async function restore(recording) {
  stop();
  await setControls(recording.request);
  stage.open(recording);
  status(`Drawn in ${recording.seconds} s.`);
}

const tries = new Tries((recording) => restore(recording));

async function share(kind) {
  try {
    const told = await ask("/api/share", stage.recording?.request ?? request());
    if (kind === "study") {
      download("try.toml", told.study, "application/toml");
      status("Saved try.toml. Run it with: guidelens study run try.toml");
      return;
    }
    byId("code-title").textContent = kind === "command" ? "The command" : "The Python";
    byId("code-text").textContent = told[kind];
    byId("copy").textContent = "Copy";
    byId("code").showModal();
  } catch (error) {
    failed(error.message);
  }
}

// -- start

function describe({ name, summary, missing, needs }) {
  const lacks = missing.length ? ` (needs ${missing.join(", ")})` : "";
  const wants = needs.length ? ` (write ${name}:${needs.map((option) => `${option}=…`).join(",")})` : "";
  return `${name}: ${summary}${lacks || wants}`;
}

function fillOptions() {
  const { defaults } = options;
  byId("examples").replaceChildren(...options.examples.map((text) => el("option", { value: text })));
  byId("prompt").value = options.examples[0] ?? "";
  for (const [id, key] of [["generators", "generators"], ["guidance-models", "guidance"]]) {
    byId(id).replaceChildren(
      ...options[key].map((each) => el("option", { value: each.name, label: describe(each) })),
    );
  }
  byId("generator").value = defaults.generator;
  byId("guidance").value = defaults.guidance;
  byId("sampler").value = defaults.sampler;
  setSlider("scale", defaults.scale);
  setSlider("steps", defaults.steps);
  setSlider("seed", 0);
  byId("steps-number").max = options.limits.steps;
  for (const each of options.schedules) {
    addSchedule(each, { checked: defaults.schedules.includes(each.name), removable: false });
  }
  summarise();
}

function bind() {
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  byId("stop").addEventListener("click", () => {
    stop();
    status("Stopped.");
  });
  byId("prompt").addEventListener("input", later);
  for (const id of ["scale", "steps", "seed"]) bindSlider(id, soon);
  for (const id of ["generator", "guidance", "sampler", "options"]) byId(id).addEventListener("change", soon);
  byId("draw-curve").addEventListener("click", () => toggleCurve(byId("curve").hidden));
  byId("add-spec").addEventListener("click", addSpelled);
  byId("spec").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    addSpelled();
  });
  for (const button of document.querySelectorAll("[data-share]")) {
    button.addEventListener("click", () => share(button.dataset.share));
  }
  byId("save-study").addEventListener("click", () => share("study"));
  byId("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("code-text").textContent);
    byId("copy").textContent = "Copied";
  });
}

const wide = matchMedia("(min-width: 62.01rem)");
const unfold = () => {
  byId("more").open = wide.matches;
};
wide.addEventListener("change", unfold);

unfold();
fillOptions();
bind();
const before = sessionStorage.getItem(KEPT);
if (before) await setControls(JSON.parse(before)).catch(() => sessionStorage.removeItem(KEPT));
draw();
