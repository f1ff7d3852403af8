// What the theme leaves to do for keyboards and screen readers.
let due = 0;
function tend() {
  due = 0;
  // Each copy button is in a landmark of its own, all without a name. A button needs none.
  document.querySelectorAll("nav.md-code__nav:not([role])").forEach(nav => nav.setAttribute("role", "none"));
  // What scrolls can be reached with the Tab key.
  document.querySelectorAll(".md-typeset__scrollwrap, pre > code").forEach(box => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
}
function soon() { due ||= requestAnimationFrame(tend); }
new MutationObserver(soon).observe(document.body, { childList: true, subtree: true });
addEventListener("resize", soon);
addEventListener("load", soon);
