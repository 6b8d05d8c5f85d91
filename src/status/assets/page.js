// The connection to the proxy, and what it says.

const LONGEST_SILENCE = 15_000;
const PATIENCE = 5_000;
let source;
let heardAt = 0;
let again;

/** @param {"connecting"|"live"|"lost"} link */
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
function lost() {
  if (source.readyState === EventSource.CLOSED) {
    clearTimeout(again);
    again = setTimeout(connect, PATIENCE);
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

function everySecond() {
  if (document.documentElement.dataset.link !== "live") return;
  if (Date.now() - heardAt > LONGEST_SILENCE) {
    lost();
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
