// Keeps a page up to date: fetches it again and changes only what differs. Focus, typed text, open details and the
// selection stay. The pages also work without this file.
"use strict";

(() => {
  const POLL = 5000; // ms between two refreshes without an event stream
  const IDLE = 15000; // ms after which a quiet page is refreshed anyway: ages go on
  const REFUSED = 60000; // ms after which a server that refused a stream is tried again
  const MIN_INTERVAL = 1000; // ms between two refreshes at least
  const SENDS = 30000; // ms for which the answer to a form is waited for

  const button = document.getElementById("live");
  const address = () => document.body.dataset.events || "";
  const LABELS = { live: "Live", polling: "Live, every 5 s", paused: "Paused", offline: "Offline, trying again" };

  let stream = null;
  let streamed = "";
  let refusedUntil = 0;
  let isPaused = false;
  let isBusy = false;
  let isOutdated = false;
  let sendsUntil = 0;
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
    for (const name of ["tick", "job", "workflow", "message"]) opened.addEventListener(name, () => refreshWithin(MIN_INTERVAL));
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
    if (timer || !address() || isPaused || Date.now() < sendsUntil || document.hidden) return;
    timer = setTimeout(refresh, Math.max(0, refreshedAt + after - Date.now()));
  }

  async function refresh() {
    timer = 0;
    isBusy = true;
    isOutdated = false;
    refreshedAt = Date.now();
    try {
      const answer = await fetch(location.href, { cache: "no-store", headers: { Accept: "text/html" } });
      if (answer.redirected || answer.status === 401 || answer.status === 403) {
        // The login has ended. What is being typed would be lost with the page.
        if (isTyping()) throw new Error("the login has ended");
        location.reload();
        return;
      }
      if (answer.status >= 500) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      window.pgqueue.prepare(page);
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

  // Not node.id: a form answers that with its field of that name.
  const key = (node) => (node.nodeType === 1 ? node.getAttribute("id") || node.getAttribute("data-key") || "" : "");
  const isAlike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);

  const isField = (node) => /^(INPUT|SELECT|TEXTAREA)$/.test(node.nodeName);
  const isTyping = () => Boolean(document.activeElement) && isField(document.activeElement);
  // What the reader has focused or selected: moving a node would take both away.
  const holds = (node) => [document.activeElement, getSelection().anchorNode, getSelection().focusNode].some(
    (used) => used && used !== document.body && node.contains(used));

  function write(node, text) {
    const { anchorNode, anchorOffset, focusNode, focusOffset } = getSelection();
    node.nodeValue = text;
    if (anchorNode !== node && focusNode !== node) return;
    const within = (at, offset) => (at === node ? Math.min(offset, text.length) : offset);
    getSelection().setBaseAndExtent(anchorNode, within(anchorNode, anchorOffset), focusNode, within(focusNode, focusOffset));
  }

  function morph(shown, fresh) {
    if (shown.isEqualNode(fresh)) return;
    if (shown.nodeType !== 1) { write(shown, fresh.nodeValue); return; }
    // A field in use belongs to the reader.
    if (shown === document.activeElement && isField(shown)) return;
    // Whether a panel is open is the reader's choice, too.
    const isOwn = (name) => name === "open" && shown.nodeName === "DETAILS";
    for (const { name } of [...shown.attributes]) {
      if (!fresh.hasAttribute(name) && !isOwn(name)) shown.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (shown.getAttribute(name) !== value && !isOwn(name)) shown.setAttribute(name, value);
    }
    let next = shown.firstChild;
    for (const child of [...fresh.childNodes]) {
      let match = next;
      if (key(child)) while (match && !isAlike(match, child)) match = match.nextSibling;
      if (match && isAlike(match, child)) {
        if (match === next) {
          next = next.nextSibling;
        } else if (holds(match)) {
          // It stays in its place; those between go behind it.
          while (match.previousSibling !== null && next !== match) {
            const after = next.nextSibling;
            shown.insertBefore(next, match.nextSibling);
            next = after;
          }
          next = match.nextSibling;
        } else {
          shown.insertBefore(match, next);
        }
        morph(match, child);
      } else {
        shown.insertBefore(child, next);
      }
    }
    while (next) {
      const after = next.nextSibling;
      // A form that someone types into stays until they leave it, even if the page no longer offers it.
      if (!(isTyping() && next.contains(document.activeElement))) next.remove();
      next = after;
    }
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
  // What a form deletes is not asked for any more: the answer to the form is the next page.
  addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    sendsUntil = Date.now() + SENDS;
    clearTimeout(timer);
    timer = 0;
  });
  setInterval(() => { if (!stream || Date.now() - refreshedAt >= IDLE) refreshWithin(POLL); }, POLL);
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => { sendsUntil = 0; if (event.persisted) { connect(); refreshWithin(0); } });
  connect();
  show();
})();
