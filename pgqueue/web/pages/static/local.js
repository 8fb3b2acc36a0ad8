// Shows times in the reader's time zone, and puts a button beside ids that copies them, and shows what needs scripts. Without this file times are
// UTC, and say so. `live.js` has each page that it fetches prepared before it is shown.
"use strict";

(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const isUtc = /^(Etc\/)?(UTC|GMT|UCT|Zulu)$/.test(zone);
  const COPIED = 1500; // ms for which a button says that it has copied

  const two = (number) => String(number).padStart(2, "0");
  const clock = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;

  // The zone's name on that day: half of the year it is another one.
  function named(at) {
    const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(at);
    return (parts.find((each) => each.type === "timeZoneName") || { value: zone }).value;
  }

  function moment(at) {
    const day = `${String(at.getFullYear()).padStart(4, "0")}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    return `${day} ${clock(at)}:${two(at.getSeconds())} ${named(at)}`;
  }

  function localise(root) {
    for (const each of root.querySelectorAll("time[datetime]")) {
      const at = new Date(each.getAttribute("datetime"));
      if (Number.isNaN(at.getTime())) continue;
      if (each.dataset.shows === "moment") each.textContent = moment(at);
      else if (each.dataset.shows === "clock") each.textContent = clock(at);
      else each.title = moment(at);
    }
    // A title in a picture is text only: it begins with the time of day.
    for (const each of root.querySelectorAll("title[data-at]")) {
      each.textContent = clock(new Date(each.dataset.at)) + each.textContent.slice(5);
    }
    for (const each of root.querySelectorAll("[data-zone]")) each.textContent = `${zone}, ${named(new Date())}`;
  }

  function addButtons(root) {
    for (const each of root.querySelectorAll("[data-copy]")) {
      const button = root.ownerDocument ? root.ownerDocument.createElement("button") : root.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.setAttribute("aria-label", `Copy ${each.dataset.copy}`);
      each.replaceChildren(button);
    }
  }

  function prepare(root) {
    if (!isUtc) localise(root);
    addButtons(root);
    for (const each of root.querySelectorAll("[data-scripted]")) each.hidden = false;
  }

  async function copy(text) {
    // Over plain HTTP from another machine, browsers have no clipboard for scripts.
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return true;
    }
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "visually-hidden";
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const done = await copy(button.parentElement.dataset.copy).catch(() => false);
    button.focus();
    const word = done ? "Copied" : "Not copied: select the text";
    document.getElementById("said").textContent = word;
    button.dataset.said = word;
    setTimeout(() => { delete button.dataset.said; }, COPIED);
  });

  prepare(document);
  window.pgqueue = { prepare };
})();
