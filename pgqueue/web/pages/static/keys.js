// The keyboard: "?" shows what each key does. Links and buttons work without this file, by Tab and Enter.
"use strict";

(() => {
  const GO = 1500; // ms in which the second key of two has to come
  const help = document.getElementById("keys");
  let goUntil = 0;

  const isTyping = (node) => Boolean(node.closest("input:not([type=checkbox]):not([type=radio]), select, textarea, [contenteditable]"));
  const menus = () => [...document.querySelectorAll("details.action[open]")];

  // What j and k go through: rows and cards, by the first link in each.
  function stops() {
    const links = [];
    for (const row of document.querySelectorAll("main tbody tr, main [data-stop]")) {
      const link = row.matches("a") ? row : row.querySelector("a[href], summary");
      if (link && link.getClientRects().length) links.push(link);
    }
    return links;
  }

  function step(by) {
    const links = stops();
    if (!links.length) return;
    const row = document.activeElement.closest("main tr, main [data-stop]");
    const at = links.findIndex((link) => row && row.contains(link));
    const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by));
    links[next].focus();
    links[next].scrollIntoView({ block: "nearest" });
  }

  function search() {
    const field = document.querySelector("main [data-search], main input[type=search], main form.filter input[type=text]");
    if (!field) {
      document.querySelector("nav [data-go=j]").click();
      return;
    }
    const panel = field.closest("details");
    if (panel) panel.open = true;
    field.focus();
    field.select();
  }

  function mark() {
    const row = document.activeElement.closest("main tr");
    const box = row && row.querySelector("input[type=checkbox]");
    if (box) box.click();
  }

  function closeMenus(but) {
    for (const menu of menus()) {
      if (menu === but) continue;
      const had = menu.contains(document.activeElement);
      menu.open = false;
      if (had) menu.querySelector("summary").focus();
    }
  }

  function go(key) {
    const link = document.querySelector(`nav [data-go="${CSS.escape(key)}"]`);
    if (link) link.click();
  }

  function show() {
    if (!help.open) help.showModal();
  }

  const KEYS = { "?": show, "/": search, j: () => step(1), k: () => step(-1), x: mark, g: () => { goUntil = Date.now() + GO; } };

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      // An open dialog closes by itself.
      if (document.querySelector("dialog[open]")) return;
      if (menus().length) closeMenus();
      else if (isTyping(event.target)) event.target.blur();
      return;
    }
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const act = Date.now() < goUntil ? () => go(event.key) : KEYS[event.key];
    goUntil = 0;
    if (!act) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("click", (event) => {
    closeMenus(event.target.closest("details.action"));
    if (event.target === help || event.target.id === "keys-close") help.close();
  });
  const opener = document.getElementById("keys-open");
  opener.hidden = false;
  opener.addEventListener("click", show);
  // On a narrow screen the navigation is one row that scrolls.
  const current = document.querySelector(".top nav [aria-current]");
  if (current) {
    const row = current.closest("ul");
    const [outer, inner] = [row.getBoundingClientRect(), current.getBoundingClientRect()];
    row.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
  }
})();
