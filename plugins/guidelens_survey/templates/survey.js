// Keys, enlarged pictures, and preloading of the next pictures. The pages also work without this script.
(() => {
  const form = document.getElementById("answers");
  const dialog = document.getElementById("large");
  const kind = form.dataset.kind;
  let sent = false;

  for (const address of form.dataset.ahead.split(" ").filter(Boolean)) new Image().src = address;

  const open = () => [...form.querySelectorAll("fieldset")].find((f) => !f.querySelector("input:checked"));
  const answer = (value) => {
    const fieldset = open();
    const input = fieldset && fieldset.querySelector(`input[value="${value}"]`);
    if (!input) return false;
    input.checked = true;
    const next = open();
    (next ? next.querySelector("input") : form.querySelector("button[type=submit]")).focus();
    return true;
  };

  document.addEventListener("keydown", (event) => {
    if (dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = kind === "pairwise" ? { ArrowLeft: "1", ArrowRight: "2" } : {};
    const value = arrows[event.key] ?? (/^[0-9]$/.test(event.key) ? event.key : null);
    if (value !== null && answer(value)) event.preventDefault();
    else if (event.key === "Enter" && !event.target.closest("a, button")) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "Backspace") {
      const back = document.getElementById("back");
      if (back) { event.preventDefault(); back.click(); }
    }
  });

  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  window.addEventListener("pageshow", () => { sent = false; });

  for (const link of document.querySelectorAll("a.zoom")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const large = dialog.querySelector("img");
      const image = link.querySelector("img");
      large.src = image.src;
      large.alt = image.alt;
      large.className = image.className;
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
})();
