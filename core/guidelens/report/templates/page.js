// Filters by schedule and prompt; the page is complete without them.
(() => {
  const form = document.getElementById("filters");
  form.hidden = false;
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
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
