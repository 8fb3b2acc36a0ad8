// The box in the head of a table that selects all of its rows. Without this file rows are selected one by one.
"use strict";

(() => {
  const rowsOf = (form) => [...form.querySelectorAll("td.pick input")];
  const headOf = (form) => form.querySelector("[data-pick-all] input");

  function show(form) {
    const rows = rowsOf(form);
    const picked = rows.filter((row) => row.checked).length;
    const head = headOf(form);
    head.checked = picked > 0 && picked === rows.length;
    head.indeterminate = picked > 0 && picked < rows.length;
  }

  document.addEventListener("change", (event) => {
    const form = event.target.closest("form.bulk");
    if (!form) return;
    const head = headOf(form);
    if (event.target === head) for (const row of rowsOf(form)) row.checked = head.checked;
    show(form);
  });

  // Rows come and go while the page is live, and a browser keeps what was selected when one comes back to it.
  const showAll = () => document.querySelectorAll("form.bulk").forEach(show);
  new MutationObserver(showAll).observe(document.getElementById("main"), { childList: true, subtree: true });
  addEventListener("pageshow", showAll);
})();
