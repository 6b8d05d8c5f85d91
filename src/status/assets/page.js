// The connection to the proxy, and what it says.

const LONGEST_SILENCE = 15_000;
const PATIENCE = 5_000;
/** Less than that, so that an answer never comes to the next attempt. */
const LONGEST_ANSWER = 4_000;
let source;
let heardAt = 0;
let again;

/** @param {"connecting"|"live"|"polled"|"lost"} link */
function setLink(link, text) {
  document.documentElement.dataset.link = link;
  say(at("link"), text);
}

function connect() {
  clearTimeout(again);
  source?.close();
  source = new EventSource("status/events");
  on("status", (status) => {
    showStatus(status);
    void refreshDeployments(status);
  });
  on("history", takeHistory);
  on("slot", takeSlot);
  source.onerror = lost;
}

/** Only what could be shown counts as heard. */
function on(name, take) {
  source.addEventListener(name, (event) => {
    take(JSON.parse(event.data));
    heardAt = Date.now();
    setLink("live", "Live");
  });
}

/** While nobody looks, nobody is told anything: what has happened is said when somebody looks again. */
function look() {
  if (!document.hidden) return connect();
  clearTimeout(again);
  source?.close();
  setLink("connecting", "Paused");
  setState("unknown", "Paused", "");
  seen.delete("state");
}

/** What is shown is no longer what is. The browser tries again by itself, unless it was refused. */
async function lost() {
  if (source.readyState === EventSource.CLOSED) {
    clearTimeout(again);
    again = setTimeout(connect, PATIENCE);
    if (await isToldOnce()) return;
  }
  if (document.documentElement.dataset.link === "lost") return;
  const since = timeOf(new Date((heardAt || Date.now()) + skew));
  setLink("lost", `Not connected, since ${since}`);
  setState("unknown", "Not connected", heardAt
    ? `Nothing has been heard of the proxy since ${since}; what is below is from then. This page tries to reach it again.`
    : "The proxy does not say what happens. This page tries to reach it again.");
  at("reasons").replaceChildren();
  say(at("t-left"), "–");
  say(at("t-next"), "–");
  seen.delete("state");
  deploymentsDue = 0;
}

/** Whoever is refused may be one viewer too many: the proxy is there, and says once how things are. Whether it did. */
async function isToldOnce() {
  try {
    const answer = await fetch("status", { signal: AbortSignal.timeout(LONGEST_ANSWER) });
    if (!answer.ok) return false;
    const status = await answer.json();
    if (document.hidden) return true;
    showStatus(status);
    void refreshDeployments(status);
  } catch {
    return false;
  }
  heardAt = Date.now();
  setLink("polled", "Too many viewers: asked every 5 seconds, without charts");
  return true;
}

function everySecond() {
  if (document.documentElement.dataset.link === "polled") tick();
  if (document.documentElement.dataset.link !== "live") return;
  if (Date.now() - heardAt > LONGEST_SILENCE) {
    void lost();
    connect();
    return;
  }
  tick();
  advance(now() / 1000);
  drawAll();
}

function begin() {
  for (const id of ["live", "link", "numbers", "t-facts"]) at(id).hidden = false;
  setLink("connecting", "Connecting…");
  showAddresses();
  makeTabs();
  watchCharts();
  document.addEventListener("visibilitychange", look);
  look();
  setInterval(everySecond, 1000);
}

begin();
