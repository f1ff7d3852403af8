// A session without a server: answers stay in the browser until the rater saves them as a file.
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const name = `guidelens ${content.survey} ${content.code}`;
  const byId = (id) => document.getElementById(id);
  const part = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  let state = { consented: false, instructed: false, answers: [] };
  try { state = JSON.parse(localStorage.getItem(name)) ?? state; } catch { /* kept in memory only */ }
  const keep = () => { try { localStorage.setItem(name, JSON.stringify(state)); } catch { /* kept in memory only */ } };
  let revising = false;
  let since = 0;

  const show = (id) => {
    for (const section of ["consent", "how", "screen", "thanks"]) byId(section).hidden = section !== id;
    window.scrollTo(0, 0);
  };

  const question = (asked, item, given) => {
    const choices = part("div", { class: item.choices.length > 5 ? "choices many" : "choices" });
    for (const [value, label] of item.choices) {
      const input = part("input", { type: "radio", name: asked.name, value, required: "" });
      input.checked = given !== undefined && given[asked.name] === value;
      const [, head, tail] = content.kind === "rating" ? label.match(/^(\S+)(.*)$/) : [label, label, ""];
      choices.append(part("label", {}, input, part("span", {}, head, ...(tail ? [part("small", {}, tail)] : []))));
    }
    const ends = [item.choices[0], item.choices[item.choices.length - 1]].map(([, label]) => part("span", {}, label));
    const below = content.kind === "rating" ? [part("p", { class: "ends", "aria-hidden": "true" }, ...ends)] : [];
    return part("fieldset", {}, part("legend", {}, asked.text), choices, ...below);
  };

  const picture = (index, label) => {
    const attributes = { src: content.pictures[index], alt: label, class: content.small[index] ? "small" : "" };
    const button = part("a", { class: "zoom", href: "#", "aria-label": `${label}: enlarge` }, part("img", attributes));
    button.addEventListener("click", (event) => {
      event.preventDefault();
      const large = byId("large").querySelector("img");
      for (const [key, value] of Object.entries(attributes)) large.setAttribute(key, value);
      byId("large").showModal();
    });
    return part("figure", {}, button, part("figcaption", {}, label));
  };

  const screen = (at) => {
    const item = content.items[at];
    const given = state.answers[at]?.answers;
    const total = content.items.length;
    const pictures = item.pictures.map((index, i) => picture(index, item.names[i]));
    const form = part("form", { id: "answers" }, ...content.questions.map((q) => question(q, item, given)));
    const go = part("div", { class: "go" });
    const back = part("button", { type: "button", id: "back" }, "Back");
    back.addEventListener("click", () => { revising = true; next(); });
    go.append(at > 0 && !revising ? back : part("span"), part("button", { type: "submit", class: "primary" }, "Next"));
    form.append(go);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const answers = {};
      for (const [key, value] of new FormData(form)) answers[key] = Number(value);
      state.answers[at] = { item: item.id, answers, seconds: (Date.now() - since) / 1000 };
      revising = false;
      keep();
      next();
    });
    const label = `Screen ${at + 1} of ${total}`;
    byId("screen").replaceChildren(
      part("div", { class: "progress" }, part("label", { for: "progress" }, label),
        part("progress", { id: "progress", max: total, value: at })),
      part("h1", { class: "sentence" }, item.quoted ? part("q", {}, item.sentence) : item.sentence),
      part("div", { class: `pictures n${pictures.length}` }, ...pictures),
      form,
    );
    since = Date.now();
    show("screen");
  };

  const next = () => {
    if (!state.consented) return show("consent");
    if (!state.instructed) return show("how");
    const at = state.answers.length - (revising ? 1 : 0);
    if (at < content.items.length) return screen(at);
    const answers = { survey: content.survey, code: content.code, answers: state.answers };
    const file = new Blob([JSON.stringify(answers)], { type: "application/json" });
    byId("save").href = URL.createObjectURL(file);
    byId("save").download = `answers-${content.code}.json`;
    byId("code").textContent = content.completion;
    return show("thanks");
  };

  document.addEventListener("keydown", (event) => {
    const form = byId("answers");
    if (!form || byId("screen").hidden || byId("large").open || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = content.kind === "pairwise" ? { ArrowLeft: "1", ArrowRight: "2" } : {};
    const value = arrows[event.key] ?? (/^[0-9]$/.test(event.key) ? event.key : null);
    const open = [...form.querySelectorAll("fieldset")].find((f) => !f.querySelector("input:checked"));
    const input = open && value !== null && open.querySelector(`input[value="${value}"]`);
    if (input) {
      event.preventDefault();
      input.checked = true;
      form.querySelector("fieldset:not(:has(input:checked)) input, button[type=submit]").focus();
    } else if (event.key === "Enter" && !event.target.closest("a, button")) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "Backspace" && byId("back")) {
      event.preventDefault();
      byId("back").click();
    }
  });
  byId("agree").addEventListener("change", () => { byId("accept").disabled = !byId("agree").checked; });
  byId("accept").addEventListener("click", () => { state.consented = true; keep(); next(); });
  byId("begin").addEventListener("click", () => { state.instructed = true; keep(); next(); });
  next();
})();
