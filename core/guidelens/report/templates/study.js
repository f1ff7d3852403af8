// Pictures of a study: filters, order, and the grids of the paper's figures. Data is in the page; nothing is fetched.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const el = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
};
const withRole = (node, role) => { node.setAttribute("role", role); return node; };
const unique = (values) => [...new Set(values)];
const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN);
const text = (value) => (value === undefined || Number.isNaN(value) ? "–" : (Math.abs(value) < 0.005 ? "0.00" : value.toFixed(2).replace("-", "−")));
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const entry = new Map(data.members.map((member) => [member.key, member]));
const ratio = (key) => data.ratios[data.cells[key].settings] || 1;
const PAGE = 10;
const SCHEDULE = "schedule";
// What a reader of the paper looks for: which of its figures has such columns.
const FIGURES = { [SCHEDULE]: "figures 1, 4 and 7", steps: "figures 2 and 6", perturbation: "figure 5" };
let limit = PAGE;
let order = [];  // keys in the order shown, for turning

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
const scoresOf = (members) => members.map(scoreOf).filter((value) => value !== undefined);
const axes = () => [SCHEDULE, ...(data.axes[$("grid").value] || [])];
const along = (member, axis) =>
  (axis === SCHEDULE ? member.schedule : member.values[(data.axes[member.grid] || []).indexOf(axis)]);

const enter = () => {
  const members = inGrid();
  boxes("schedules", unique(members.map((m) => m.schedule)));
  boxes("seeds", unique(members.map((m) => m.seed)).sort((a, b) => a - b));
  const names = axes();
  $("across").replaceChildren(...names.map((name) => el("option", { value: name, textContent: name.replaceAll("_", " ") })));
  $("across").value = names.find((name) => name === "steps") || names.find((name) => name === "perturbation") || SCHEDULE;
  limit = PAGE;
  show();
};

const ranked = (groups) => {
  const spread = (members) => {
    const means = unique(members.map((m) => m.schedule))
      .map((name) => mean(scoresOf(members.filter((m) => m.schedule === name))))
      .filter((value) => !Number.isNaN(value));
    return means.length ? Math.max(...means) - Math.min(...means) : 0;
  };
  const rank = {
    low: (members) => mean(scoresOf(members)),
    high: (members) => -mean(scoresOf(members)),
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
  $("list").replaceChildren(...groups.slice(0, limit).map(([clean, mine]) => article(clean, mine)));
  $("list").classList.toggle("pairs", [...$("list").children].every((box) => Number(box.dataset.wide) <= 4));
  order = [...$("list").querySelectorAll("a.picture")].map((link) => link.dataset.key);
  const like = FIGURES[$("across").value];
  $("count").textContent = members.length
    ? `${plural(members.length, "picture")} of ${plural(groups.length, "prompt")}${like ? `, laid out like the paper’s ${like}` : ""}. `
      + "Choose one for its steps, settings and command."
    : "No finished picture fits.";
  $("more").hidden = groups.length <= limit;
};

// --- one prompt: a grid of pictures

const article = (clean, members) => {
  const across = $("across").value;
  const down = axes().filter((name) => name !== across);
  const columns = unique(members.map((m) => along(m, across)));
  const row = (m) => JSON.stringify(down.map((name) => along(m, name)));
  const rows = unique(members.map(row));
  const seeds = unique(members.map((m) => m.seed)).length;
  const most = Math.max(...rows.flatMap((r) => columns.map(
    (c) => members.filter((m) => row(m) === r && along(m, across) === c).length)));
  const fits = (width, least) => Math.max(1, Math.min(most, Math.floor(width / columns.length / least)));
  const table = withRole(el("table", { className: `spread${rows.length > 3 ? " high" : ""}` }), "table");
  table.setAttribute("aria-label", clean);
  table.style.setProperty("--columns", columns.length);
  table.style.setProperty("--least", columns.length > 5 ? "4.9rem" : "4.2rem");  // a column that is cut says: scroll
  table.style.setProperty("--wide", fits(1150, 78));
  table.style.setProperty("--narrow", fits(350, 54));
  const corner = rows.length > 1 ? withRole(el("td", { className: "corner" }), "cell") : null;
  const head = withRole(el("tr", {}, corner, ...columns.map((name) => heading(
    "col", [across], members.filter((m) => along(m, across) === name)))), "row");
  const body = rows.map((r) => {
    const mine = members.filter((m) => row(m) === r);
    const cells = columns.map((name) => withRole(el("td", {}, el("div", { className: "mosaic" },
      ...mine.filter((m) => along(m, across) === name).map((m) => figure(m, seeds > 1)))), "cell"));
    return withRole(el("tr", {}, rows.length > 1 ? heading("row", down, mine) : null, ...cells), "row");
  });
  table.append(withRole(el("thead", {}, head), "rowgroup"), withRole(el("tbody", {}, ...body), "rowgroup"));
  const box = el("article", {}, el("h3", { textContent: clean }), el("div", { className: "grid" }, table));
  box.dataset.wide = columns.length * Math.min(most, fits(1150, 78));
  return box;
};

const heading = (scope, names, members) => {
  const one = members[0];
  const parts = names.map((name) => (name === SCHEDULE
    ? el("span", { className: `key c${data.colours[one.schedule]}`, textContent: one.schedule })
    : el("span", { textContent: along(one, name) })));
  const values = scoresOf(members);
  const told = values.length ? el("small", { textContent: `${$("column").value.replaceAll("_", " ")} ${text(mean(values))}` }) : null;
  const prompts = unique(members.map((m) => m.prompt));
  const changed = prompts.length === 1 && one.changed ? el("q", { textContent: one.prompt }) : null;
  const cell = withRole(el("th", { scope }, ...parts.flatMap((part, i) => (i ? [", ", part] : [part])), changed, told),
    scope === "col" ? "columnheader" : "rowheader");
  return cell;
};

const picture = (key, alt) => el("img", {
  src: data.cells[key].image, loading: "lazy", width: 64, height: Math.round(64 / ratio(key)), alt,
});

const figure = (member, seeded) => {
  const alt = `${member.prompt}, drawn by ${[member.schedule, ...member.values].join(", ")}, seed ${member.seed}`;
  const link = el("a", { className: "picture", href: `#${member.key}` }, picture(member.key, alt));
  link.dataset.key = member.key;
  return el("figure", {}, link, el("figcaption", {}, el("span", { className: "score" },
    el("span", { textContent: seeded ? `seed ${member.seed}` : "" }), el("b", { textContent: text(scoreOf(member)) }))));
};

// Make sure that a picture is among those shown, so that one can turn from it.
const reach = (key) => {
  if (order.includes(key)) return;
  $("grid").value = entry.get(key).grid;
  $("text").value = "";
  enter();
  const prompts = unique(inGrid().map((m) => m.clean));
  while (!order.includes(key) && limit < prompts.length) { limit += PAGE; show(); }
};

const wireFilters = () => {
  for (const name of data.columns) $("column").append(el("option", { value: name, textContent: name.replaceAll("_", " ") }));
  $("filters").hidden = false;
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("input", (event) => {
    if (event.target.id === "grid") enter();
    else { limit = PAGE; show(); }
  });
  $("more").addEventListener("click", () => { limit += PAGE; show(); });
  enter();
};
