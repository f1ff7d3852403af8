// One picture of a study: the dialog at #KEY, with its steps.
const still = matchMedia("(prefers-reduced-motion: reduce)");
let current = "";
let stage = null;

const openCell = (key) => {
  const cell = data.cells[key];
  const member = entry.get(key);
  if (stage) stage.pause();
  current = key;
  stage = player(key, cell);
  const variant = [member.schedule, `seed ${member.seed}`, ...member.values].join(", ");
  $("detail-title").replaceChildren(el("b", { textContent: member.prompt }), el("br"), variant,
    ...(member.changed ? [el("br"), `clean: ${member.clean}`] : []));
  $("large").replaceChildren(stage.box, ...(stage.controls ? [stage.controls] : []), scores(cell), ...questions(cell));
  $("telemetry").replaceChildren(...strips(key, cell), ...charts(cell));
  const beside = [el("a", { href: `#${key}`, textContent: "address of this view" })];
  if (cell.frames.length > 1) {
    beside.push(el("a", { href: `trajectories/${key}.webp`, textContent: "as an animation (WebP)" }));
  }
  beside.push(el("a", { href: cell.image, textContent: cell.image }));
  $("rest").replaceChildren(
    el("p", { className: "group", textContent: "draw it again bit for bit (in the folder of this page)" }),
    el("pre", { tabIndex: 0 }, el("code", { textContent: cell.redraw })),
    el("p", { className: "group", textContent: "draw it alone (rounds differently, so it may be another picture)" }),
    el("pre", { tabIndex: 0 }, el("code", { textContent: cell.command })),
    el("details", {}, el("summary", { textContent: "settings" }), list(data.settings[cell.settings] || {}, "settings")),
    ...cell.notes.map((note) => el("p", { className: "hint", textContent: note })),
    el("p", { className: "hint links" }, ...beside),
  );
  if (!$("detail").open) $("detail").showModal();
  $("detail").scrollTop = 0;
};

const list = (values, className = "") => el("dl", { className }, ...Object.entries(values).map(([name, value]) =>
  el("div", {}, el("dt", { textContent: name.replaceAll("_", " ") }), el("dd", { textContent: value }))));

const scores = (cell) => list({
  ...Object.fromEntries(Object.entries(cell.metrics).map(([name, value]) => [name, text(value)])),
  ...cell.errors,
  "unguided steps": cell.nonfinite,
});

const questions = (cell) => (cell.questions || []).map(({ title, lines }) => el("details", { className: "questions" },
  el("summary", { textContent: `${title}: ${lines.length} ${lines.length === 1 ? "question" : "questions"}` }),
  el("dl", {}, ...lines.map(([asked, score, mark]) => el("div", {}, el("dt", { textContent: asked }),
    el("dd", { textContent: mark ? `${score}, ${mark}` : score }))))));

// --- the steps: one large frame to step through, and all frames side by side

// Rows of the sheets beside the page: the predictions of x0, then where each objective pulled.
const sheet = (key, cell, what) => {
  const maps = Object.keys(cell.saliency || {});
  const at = maps.indexOf(what);
  return at < 0 ? { file: `trajectories/${key}.png`, rows: 1, at: 0 } : { file: `trajectories/${key}-saliency.png`, rows: maps.length, at };
};

const place = (node, key, cell, what, i) => {
  const { file, rows, at } = sheet(key, cell, what);
  const n = cell.frames.length;
  const share = (j, of) => (of > 1 ? `${(100 * j) / (of - 1)}%` : "0");
  node.style.backgroundImage = `url("${file}")`;
  node.style.backgroundSize = `${n * 100}% ${rows * 100}%`;
  node.style.backgroundPosition = `${share(i, n)} ${share(at, rows)}`;
};

const told = (cell, i) => (i === cell.frames.length ? "the picture" : `step ${cell.frames[i] + 1} of ${data.steps[cell.settings]}`);

const player = (key, cell) => {
  const member = entry.get(key);
  const n = cell.frames.length;
  const box = el("div", { className: "stage" }, picture(key, member.prompt));
  if (!n) return { box, controls: null, pause: () => {}, look: () => {} };
  const cover = el("div", { className: "frame", hidden: true });
  cover.setAttribute("role", "img");
  box.append(cover);
  const slider = el("input", { type: "range", id: "frame", min: 0, max: n, step: 1, value: n });
  slider.setAttribute("aria-label", "Step of the prediction shown");
  const said = el("output", { htmlFor: "frame" });
  const button = el("button", { type: "button", id: "play" });
  const what = el("select", { id: "what" }, ...["x0", ...Object.keys(cell.saliency || {})].map((name) =>
    el("option", { value: name, textContent: name === "x0" ? "prediction of x0" : `where ${name} pulled` })));
  what.setAttribute("aria-label", "What is shown large");
  let clock = 0;
  const label = () => { button.textContent = still.matches ? "Next" : clock ? "Pause" : "Play"; };
  const pause = () => { clearInterval(clock); clock = 0; label(); };
  const draw = () => {
    const i = Number(slider.value);
    cover.hidden = i === n;
    if (i < n) {
      place(cover, key, cell, what.value, i);
      cover.setAttribute("aria-label", `${what.selectedOptions[0].textContent}, ${told(cell, i)}`);
    }
    said.textContent = told(cell, i);
    slider.setAttribute("aria-valuetext", told(cell, i));
    document.querySelectorAll("#telemetry .frame").forEach((frame) => {
      frame.classList.toggle("shown", Number(frame.dataset.at) === i && frame.dataset.what === what.value);
    });
  };
  const forward = () => {
    slider.value = Number(slider.value) >= n ? 0 : Number(slider.value) + 1;
    draw();
    if (Number(slider.value) === n) pause();
  };
  button.addEventListener("click", () => {
    if (clock) { pause(); return; }
    if (!still.matches) clock = setInterval(forward, Math.max(200, Math.min(700, 4000 / n)));
    forward();
    label();
  });
  slider.addEventListener("input", () => { pause(); draw(); });
  what.addEventListener("change", () => {
    if (Number(slider.value) === n) slider.value = n - 1;
    draw();
  });
  const look = (row, i) => { pause(); what.value = row; slider.value = i; draw(); };
  label();
  draw();
  const controls = el("div", { className: "player" }, button, slider, said, what.options.length > 1 ? what : null);
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-label", "The steps of the picture");
  return { box, controls, pause, look };
};

const strips = (key, cell) => {
  const n = cell.frames.length;
  if (!n) return [];
  const maps = Object.entries(cell.saliency || {});
  const row = (what, title, alt, under) => withRole(el("tr", {},
    withRole(el("th", { scope: "row", textContent: title }), "rowheader"),
    ...cell.frames.map((step, i) => {
      const frame = el("div", { className: "frame" });
      frame.setAttribute("role", "img");
      frame.setAttribute("aria-label", `${alt}, step ${step + 1}${under ? `: ${under(i)}` : ""}`);
      frame.dataset.at = i;
      frame.dataset.what = what;
      frame.style.aspectRatio = ratio(key);
      place(frame, key, cell, what, i);
      frame.addEventListener("click", () => stage.look(what, i));
      return withRole(el("td", {}, frame, under ? el("span", { ariaHidden: "true", textContent: under(i) }) : null), "cell");
    })), "row");
  const head = withRole(el("tr", {}, withRole(el("td", { className: "corner" }), "cell"), ...cell.frames.map((step) =>
    withRole(el("th", { scope: "col", textContent: `step ${step + 1}` }), "columnheader"))), "row");
  const peak = (values) => (i) => (values[i] === null ? "inactive" : values[i] < 0 ? "not finite" : short(values[i], 1));
  const table = withRole(el("table", { className: "strips" }, withRole(el("thead", {}, head), "rowgroup"),
    withRole(el("tbody", {}, row("x0", "x0", "prediction of x0"),
      ...maps.map(([name, values]) => row(name, name, `where ${name} pulled`, peak(values)))), "rowgroup")), "table");
  table.style.setProperty("--columns", n);
  const title = maps.length ? "what the model expected, and where each objective pulled" : "what the model expected (x0)";
  table.setAttribute("aria-label", title);
  const scroll = el("div", { className: "grid", tabIndex: 0 }, table);
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", title);
  const parts = [el("p", { className: "group", textContent: title }), scroll];
  if (maps.length) {
    parts.push(el("p", { className: "hint", textContent: "Heat over the prediction in grey: the mean over channels of "
      + "|∂L/∂x0|, the size of each objective’s gradient at the predicted picture. Each map is scaled to its own peak, "
      + "which is printed below it (the brightest); so compare places within a map, and peaks between maps. Inactive: the "
      + "objective had no weight at that step." }));
  }
  return parts;
};

// --- charts

const charts = (cell) => {
  const titles = { losses: "losses", gradient_norms: "gradient norms", cosines: "gradient cosines" };
  const parts = [];
  for (const [kind, title] of Object.entries(titles)) {
    const series = Object.entries(cell.steps[kind] || {});
    if (!series.length) continue;
    parts.push(el("p", { className: "group", textContent: title }));
    const box = el("div", { className: "charts" });
    for (const [name, values] of series) {
      const colour = kind === "cosines" ? data.neutral : data.colours[name];
      const caption = el("figcaption", { className: `key c${colour}`, textContent: name.replace("|", ", ") });
      const holder = el("figure", { className: "loss" }, caption);
      holder.insertAdjacentHTML("beforeend", chart(values, colour, kind === "cosines" ? [-1, 1] : null, data.steps[cell.settings]));
      box.append(holder);
    }
    parts.push(box);
  }
  return parts.length ? parts : [el("p", { className: "hint", textContent: "No steps were recorded." })];
};

const short = (v, digits = 0) => (v !== 0 && (Math.abs(v) >= 1e4 || Math.abs(v) < 1e-2) ? v.toExponential(digits) : String(+v.toPrecision(3))).replace("-", "−");

// Numbers alone go into this markup.
const chart = (values, colour, range, steps) => {
  const present = values.filter((v) => v !== null);
  let [low, high] = range || [Math.min(...present), Math.max(...present)];
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  const x = (i) => 34 + (182 * i) / Math.max(1, values.length - 1);
  const y = (v) => 5 + 58 * (1 - (Math.min(high, Math.max(low, v)) - low) / (high - low));
  let path = "";
  values.forEach((v, i) => {
    if (v === null) return;
    const before = i > 0 && values[i - 1] !== null;
    const after = i + 1 < values.length && values[i + 1] !== null;
    path += `${before ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}${before || after ? "" : "h0"}`;
  });
  const zero = low < 0 && high > 0 ? `<path class="axis" d="M34 ${y(0)}H216"/>` : "";
  const ends = present.length ? `from ${short(present[0])} to ${short(present[present.length - 1])}` : "none";
  return `<svg class="chart" viewBox="0 0 220 76" role="img" aria-label="${ends}"><path class="axis" d="M34 5V63H216"/>${zero}`
    + `<path class="line c${colour}" d="${path}"/><text class="end" x="31" y="11">${short(high)}</text>`
    + `<text class="end" x="31" y="63">${short(low)}</text><text x="34" y="74">step 1</text>`
    + `<text class="end" x="216" y="74">${Number(steps)}</text></svg>`;
};

// --- addresses: #KEY opens, the back button closes

const named = () => {
  const key = location.hash.slice(1);
  return Object.hasOwn(data.cells, key) ? key : "";
};

const follow = () => {
  const key = named();
  if (key) {
    reach(key);
    if (key !== current || !$("detail").open) openCell(key);
  } else if ($("detail").open) $("detail").close();
};

const turn = (by) => {
  const next = order[order.indexOf(current) + by];
  if (!order.includes(current) || !next) return;
  history.replaceState(history.state, "", `#${next}`);
  openCell(next);
};

const wireCells = () => {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.picture");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState({ opened: true }, "", `#${link.dataset.key}`);
    follow();
  });
  window.addEventListener("popstate", follow);
  $("close").addEventListener("click", () => $("detail").close());
  $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
  $("detail").addEventListener("close", () => {
    stage.pause();
    if (!named()) return;
    if (history.state && history.state.opened) history.back();
    else history.replaceState(null, "", " ");
  });
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  document.addEventListener("keydown", (event) => {
    if (!$("detail").open || event.target.matches("input, select") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  follow();
};

wireFilters();
wireCells();
