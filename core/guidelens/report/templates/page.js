// Filters, and turning from picture to picture. The page is complete without them.
(() => {
  "use strict";
  const form = document.getElementById("filters");
  const pictures = [...document.querySelectorAll("button.picture")];
  const byKey = new Map(pictures.map((picture) => [picture.dataset.key, picture]));
  const detail = (key) => document.getElementById(`d-${key}`);

  // --- filters

  const apply = () => {
    for (const box of form.querySelectorAll("input[data-filter]")) {
      for (const part of document.querySelectorAll(`[data-${box.dataset.filter}="${box.value}"]`)) {
        part.hidden = !box.checked;
      }
    }
    const shown = form.querySelectorAll('input[data-filter="schedule"]:checked').length;
    for (const columns of document.querySelectorAll(".columns")) {
      columns.style.setProperty("--count", Math.max(1, shown));
    }
  };
  form.hidden = false;
  form.addEventListener("change", apply);
  for (const each of document.querySelectorAll("form")) each.addEventListener("submit", (event) => event.preventDefault());
  apply();

  // --- details: #KEY opens, arrows turn

  let current = "";
  const named = () => (byKey.has(location.hash.slice(1)) ? location.hash.slice(1) : "");

  const show = (key) => {
    if (current && current !== key) detail(current).hidePopover();
    if (!detail(key).matches(":popover-open")) detail(key).showPopover();
  };

  const fillStrip = (key) => {
    const box = detail(key).querySelector(".same");
    const strip = box.querySelector(".strip");
    const mine = byKey.get(key);
    const others = pictures.filter((other) => other.dataset.same === mine.dataset.same);
    if (others.length < 2 || strip.childElementCount) return;
    for (const other of others) {
      const link = document.createElement("a");
      link.href = `#${other.dataset.key}`;
      if (other === mine) link.setAttribute("aria-current", "true");
      const image = other.querySelector("img").cloneNode();
      image.alt = "";
      link.append(image, other.dataset.scheduleName);
      strip.append(link);
    }
    box.hidden = false;
  };

  const turn = (by) => {
    const order = pictures.filter((picture) => picture.checkVisibility() || picture.dataset.key === current);
    const next = order[order.indexOf(byKey.get(current)) + by];
    if (next) show(next.dataset.key);
  };

  for (const picture of pictures) {
    const key = picture.dataset.key;
    const box = detail(key);
    box.addEventListener("beforetoggle", (event) => {
      if (event.newState === "open") {
        current = key;
        fillStrip(key);
        history.replaceState(null, "", `#${key}`);
      } else if (current === key) {
        current = "";
        if (named() === key) history.replaceState(null, "", location.pathname + location.search);
      }
    });
    const buttons = box.querySelector(".turn");
    buttons.hidden = false;
    for (const button of buttons.children) button.addEventListener("click", () => turn(Number(button.dataset.turn)));
  }
  document.addEventListener("keydown", (event) => {
    if (!current || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  window.addEventListener("hashchange", () => { if (named()) show(named()); });
  if (named()) show(named());
})();
