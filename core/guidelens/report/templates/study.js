// Pictures of a study: filters, order, and the dialog of one cell. Data is in the page; nothing is fetched.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const el = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children.filter((child) => child !== null));
    return node;
  };
  const unique = (values) => [...new Set(values)];
  const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN);
  const text = (value) => (value === undefined ? "–" : value.toFixed(2).replace("-", "−"));
  const PAGE = 10;
  let limit = PAGE;
  let order = [];  // keys in the order shown, for the arrow keys

  // --- filters

  const boxes = (place, values) => {
    $(place).querySelectorAll("label").forEach((label) => label.remove());
    for (const value of values) {
      $(place).append(el("label", {}, el("input", { type: "checkbox", checked: true, value }), ` ${value}`));
    }
  };
  const chosen = (place) => new Set([...$(place).querySelectorAll("input:checked")].map((box) => box.value));
  const inGrid = () => data.members.filter((member) => member.grid === $("grid").value);
  const scoreOf = (member) => data.cells[member.key].metrics[$("column").value];

  const enter = () => {
    const members = inGrid();
    boxes("schedules", unique(members.map((m) => m.schedule)));
    boxes("seeds", unique(members.map((m) => m.seed)).sort((a, b) => a - b));
    limit = PAGE;
    show();
  };

  const ranked = (groups) => {
    const scores = (members) => members.map(scoreOf).filter((value) => value !== undefined);
    const spread = (members) => {
      const means = unique(members.map((m) => m.schedule))
        .map((name) => mean(scores(members.filter((m) => m.schedule === name))))
        .filter((value) => !Number.isNaN(value));
      return means.length ? Math.max(...means) - Math.min(...means) : 0;
    };
    const rank = {
      low: (members) => mean(scores(members)),
      high: (members) => -mean(scores(members)),
      spread: (members) => -spread(members),
    }[$("order").value];
    if (!rank) return groups;
    const value = new Map(groups.map((group) => [group, rank(group[1])]));
    const last = (x) => (Number.isNaN(x) ? Infinity : x);
    return [...groups].sort((a, b) => last(value.get(a)) - last(value.get(b)));
  };

  const show = () => {
    const schedules = chosen("schedules");
    const seeds = chosen("seeds");
    const wanted = $("text").value.trim().toLowerCase();
    const members = inGrid().filter(
      (m) => schedules.has(m.schedule) && seeds.has(String(m.seed))
        && (!wanted || m.clean.toLowerCase().includes(wanted) || m.prompt.toLowerCase().includes(wanted)),
    );
    const byPrompt = new Map();
    for (const member of members) {
      if (!byPrompt.has(member.clean)) byPrompt.set(member.clean, []);
      byPrompt.get(member.clean).push(member);
    }
    const groups = ranked([...byPrompt]);
    const shown = groups.slice(0, limit);
    order = shown.flatMap(([, mine]) => [...schedules].flatMap((s) => mine.filter((m) => m.schedule === s)))
      .map((m) => m.key);
    $("list").replaceChildren(...shown.map(([clean, mine]) => article(clean, mine, [...schedules])));
    $("count").textContent = members.length
      ? `${members.length} pictures of ${groups.length} prompts. Choose one for its steps, settings and command.`
      : "No finished picture fits.";
    $("more").hidden = groups.length <= limit;
  };

  const article = (clean, members, schedules) => {
    const columns = el("div", { className: "columns" });
    const present = schedules.filter((name) => members.some((m) => m.schedule === name));
    columns.style.setProperty("--count", Math.max(1, present.length));
    for (const name of present) {
      const mine = members.filter((m) => m.schedule === name);
      const values = mine.map(scoreOf).filter((value) => value !== undefined);
      const head = el("h4", {}, el("span", { className: `key c${data.colours[name]}`, textContent: name }),
        el("small", { textContent: values.length ? `${$("column").value} ${text(mean(values))}` : "" }));
      columns.append(el("section", { className: "column" }, head, mosaic(mine)));
    }
    return el("article", {}, el("h3", { textContent: clean }), columns);
  };

  const mosaic = (members) => {
    const box = el("div", { className: "mosaic" });
    const label = (m) => (m.changed ? `${m.variant}: ${m.prompt}` : m.variant);
    const variants = unique(members.map(label)).map((name) => [name, members.filter((m) => label(m) === name)]);
    // A line for each variant where it has several pictures or another prompt; else its name is under its picture.
    const lines = variants.some(([, mine]) => mine.length > 1 || mine[0].changed);
    for (const [name, mine] of variants) {
      if (name && lines) box.append(el("p", { className: "variant", textContent: name }));
      box.append(...mine.map((m) => figure(m, lines ? "" : name)));
    }
    return box;
  };

  const picture = (key, alt) =>
    el("img", { src: data.cells[key].image, loading: "lazy", width: 32, height: 32, alt });

  const figure = (member, name) => {
    const alt = `${member.prompt}, drawn by ${member.schedule}, seed ${member.seed}`;
    const button = el("button", { type: "button", className: "picture" }, picture(member.key, alt));
    button.dataset.key = member.key;
    button.setAttribute("aria-label", `Details: ${alt}`);
    return el("figure", {}, button, el("figcaption", {},
      el("span", { className: "score" }, el("span", { textContent: name || `seed ${member.seed}` }),
        el("b", { textContent: text(scoreOf(member)) }))));
  };

  // --- one cell

  const entry = new Map(data.members.map((member) => [member.key, member]));
  let current = "";

  const open = (key) => {
    const cell = data.cells[key];
    const member = entry.get(key);
    if (!cell || !member) return;
    current = key;
    const variant = [member.schedule, `seed ${member.seed}`, member.variant].filter(Boolean).join(", ");
    $("detail-title").replaceChildren(el("b", { textContent: member.prompt }), el("br"), variant,
      ...(member.changed ? [el("br"), `clean: ${member.clean}`] : []));
    $("large").replaceChildren(picture(key, member.prompt), frames(key, cell), scores(cell));
    $("telemetry").replaceChildren(...charts(cell));
    $("rest").replaceChildren(
      el("p", { className: "group", textContent: "draw it again (up to rounding)" }),
      el("pre", { tabIndex: 0 }, el("code", { textContent: cell.command })),
      el("details", {}, el("summary", { textContent: "settings" }), list(data.settings[cell.settings] || {}, "settings")),
      ...cell.notes.map((note) => el("p", { className: "hint", textContent: note })),
      el("p", { className: "hint", textContent: cell.image }),
    );
    if (!$("detail").open) $("detail").showModal();
    $("detail").scrollTop = 0;
    history.replaceState(null, "", `#cell=${key}`);
  };

  const list = (values, className = "") => el("dl", { className }, ...Object.entries(values).map(([name, value]) =>
    el("div", {}, el("dt", { textContent: name.replaceAll("_", " ") }), el("dd", { textContent: value }))));

  const scores = (cell) => list({
    ...Object.fromEntries(Object.entries(cell.metrics).map(([name, value]) => [name, text(value)])),
    ...cell.errors,
    "unguided steps": cell.nonfinite,
  });

  const frames = (key, cell) => {
    const n = cell.frames.length;
    if (!n) return null;
    const box = el("div", { className: "frames" });
    box.setAttribute("aria-label", "Prediction of the picture at these steps");
    cell.frames.forEach((step, i) => {
      const frame = el("div");
      frame.style.aspectRatio = "1";
      frame.style.backgroundImage = `url("trajectories/${key}.png")`;
      frame.style.backgroundSize = `${n * 100}% 100%`;
      frame.style.backgroundPosition = n > 1 ? `${(100 * i) / (n - 1)}% 0` : "0 0";
      box.append(el("figure", {}, frame, el("figcaption", { textContent: `step ${step + 1}` })));
    });
    return box;
  };

  const charts = (cell) => {
    const titles = { losses: "losses", gradient_norms: "gradient norms", cosines: "gradient cosines" };
    const parts = [];
    for (const [kind, title] of Object.entries(titles)) {
      const series = Object.entries(cell.steps[kind] || {});
      if (!series.length) continue;
      parts.push(el("p", { className: "group", textContent: title }));
      const box = el("div", { className: "charts" });
      for (const [name, values] of series) {
        const colour = kind === "cosines" ? 7 : data.objectives[name];
        const caption = el("figcaption", { className: `key c${colour}`, textContent: name.replace("|", ", ") });
        const holder = el("figure", { className: "loss" }, caption);
        holder.insertAdjacentHTML("beforeend", chart(values, colour, kind === "cosines" ? [-1, 1] : null));
        box.append(holder);
      }
      parts.push(box);
    }
    return parts.length ? parts : [el("p", { className: "hint", textContent: "No steps were recorded." })];
  };

  const short = (v) => (v !== 0 && (Math.abs(v) >= 1e4 || Math.abs(v) < 1e-2) ? v.toExponential(0) : String(+v.toPrecision(3)));

  // Numbers alone go into this markup.
  const chart = (values, colour, range) => {
    const present = values.filter((v) => v !== null);
    let [low, high] = range || [Math.min(...present), Math.max(...present)];
    if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
    const x = (i) => 34 + (182 * i) / Math.max(1, values.length - 1);
    const y = (v) => 5 + 58 * (1 - (Math.min(high, Math.max(low, v)) - low) / (high - low));
    let path = "";
    values.forEach((v, i) => {
      if (v !== null) path += `${i && values[i - 1] !== null ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
    });
    const zero = low < 0 && high > 0 ? `<path class="axis" d="M34 ${y(0)}H216"/>` : "";
    return `<svg class="chart" viewBox="0 0 220 76" aria-hidden="true"><path class="axis" d="M34 5V63H216"/>${zero}`
      + `<path class="line c${colour}" d="${path}"/><text class="end" x="31" y="11">${short(high)}</text>`
      + `<text class="end" x="31" y="63">${short(low)}</text><text x="34" y="74">first step</text>`
      + '<text class="end" x="216" y="74">last</text></svg>';
  };

  const turn = (by) => {
    const at = order.indexOf(current);
    const next = order[at + by];
    if (at >= 0 && next) open(next);
  };

  // --- wiring

  for (const name of data.columns) $("column").append(el("option", { value: name, textContent: name }));
  $("filters").hidden = false;
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("input", (event) => {
    if (event.target.id === "grid") enter();
    else { limit = PAGE; show(); }
  });
  $("more").addEventListener("click", () => { limit += PAGE; show(); });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-key]");
    if (button) open(button.dataset.key);
  });
  $("close").addEventListener("click", () => $("detail").close());
  $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
  $("detail").addEventListener("close", () => history.replaceState(null, "", " "));
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  document.addEventListener("keydown", (event) => {
    if (!$("detail").open) return;
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  enter();
  const cell = location.hash.match(/^#cell=([0-9a-f]+)$/);
  if (cell) open(cell[1]);
})();
