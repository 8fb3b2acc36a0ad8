// Keeps a page up to date: fetches it again and changes only what differs. Focus, typed text, open details and the
// selection stay. The pages also work without this file.
"use strict";

(() => {
  const POLL = 5000; // ms between two refreshes without an event stream
  const IDLE = 15000; // ms after which a quiet page is refreshed anyway: ages go on
  const REFUSED = 60000; // ms after which a server that refused a stream is tried again
  const MIN_INTERVAL = 1000; // ms between two refreshes at least

  const button = document.getElementById("live");
  const address = () => document.body.dataset.events || "";
  const LABELS = { live: "Live", polling: "Live, every 5 s", paused: "Paused", offline: "Offline, trying again" };

  let stream = null;
  let streamed = "";
  let refusedUntil = 0;
  let isPaused = false;
  let isBusy = false;
  let isOutdated = false;
  let hasFailed = false;
  let refreshedAt = Date.now();
  let timer = 0;

  function show() {
    const state = isPaused ? "paused" : hasFailed ? "offline" : stream && stream.readyState === EventSource.OPEN ? "live" : "polling";
    button.dataset.state = state;
    button.textContent = LABELS[state];
    button.setAttribute("aria-pressed", String(!isPaused));
    button.hidden = !address();
  }

  function connect() {
    if (streamed === address() && (stream || Date.now() < refusedUntil)) return;
    disconnect();
    streamed = address();
    if (!streamed || isPaused || document.hidden || !("EventSource" in window)) return;
    const opened = stream = new EventSource(streamed);
    for (const name of ["tick", "job", "message"]) opened.addEventListener(name, () => refreshWithin(MIN_INTERVAL));
    opened.onopen = show;
    opened.onerror = () => {
      // EventSource reconnects by itself, unless the server has ended the stream for good, or has none.
      if (opened !== stream || opened.readyState !== EventSource.CLOSED) return;
      stream = null;
      refusedUntil = Date.now() + REFUSED;
      show();
    };
  }

  function disconnect() {
    if (stream) stream.close();
    stream = null;
    streamed = "";
  }

  function refreshWithin(after) {
    if (isBusy) { isOutdated = true; return; }
    if (timer || !address() || isPaused || document.hidden) return;
    timer = setTimeout(refresh, Math.max(0, refreshedAt + after - Date.now()));
  }

  async function refresh() {
    timer = 0;
    isBusy = true;
    isOutdated = false;
    refreshedAt = Date.now();
    try {
      const answer = await fetch(location.href, { cache: "no-store", headers: { Accept: "text/html" } });
      if (answer.redirected || answer.status === 401 || answer.status === 403) { location.reload(); return; }
      if (answer.status >= 500) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!isPaused) take(page);
      hasFailed = false;
    } catch {
      hasFailed = true;
    } finally {
      isBusy = false;
      refreshedAt = Date.now();
    }
    connect();
    show();
    if (isOutdated) refreshWithin(MIN_INTERVAL);
  }

  function take(page) {
    for (const fresh of page.querySelectorAll("[data-live][id]")) {
      const shown = document.getElementById(fresh.id);
      if (shown) morph(shown, fresh);
    }
    document.title = page.title;
    document.body.dataset.events = page.body.dataset.events || "";
  }

  const key = (node) => (node.nodeType === 1 ? node.id || node.dataset.key || "" : "");
  const isAlike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);

  function morph(shown, fresh) {
    if (shown.isEqualNode(fresh)) return;
    if (shown.nodeType !== 1) { shown.nodeValue = fresh.nodeValue; return; }
    // A field in use belongs to the reader.
    if (shown === document.activeElement && /^(INPUT|SELECT|TEXTAREA)$/.test(shown.nodeName)) return;
    for (const { name } of [...shown.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && shown.nodeName === "DETAILS")) shown.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
    }
    let next = shown.firstChild;
    for (const child of [...fresh.childNodes]) {
      let match = next;
      if (key(child)) while (match && !isAlike(match, child)) match = match.nextSibling;
      if (match && isAlike(match, child)) {
        if (match !== next) shown.insertBefore(match, next);
        else next = next.nextSibling;
        morph(match, child);
      } else {
        shown.insertBefore(child, next);
      }
    }
    while (next) { const after = next.nextSibling; next.remove(); next = after; }
  }

  button.addEventListener("click", () => {
    isPaused = !isPaused;
    if (isPaused) disconnect();
    else { connect(); refreshWithin(0); }
    show();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else { connect(); refreshWithin(0); }
    show();
  });
  setInterval(() => { if (!stream || Date.now() - refreshedAt >= IDLE) refreshWithin(POLL); }, POLL);
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => { if (event.persisted) { connect(); refreshWithin(0); } });
  connect();
  show();
})();
