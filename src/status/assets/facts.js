// What is known of the proxy itself: its state, its identity, its token; and the lists.

let report = null;
let reportedAt = 0;

/** Shows a whole `/status`. */
function showStatus(status) {
  setClock(status.now);
  report = status;
  reportedAt = now();
  showState();
  showNumbers(status);
  showIdentity(status);
  showToken(status);
  showUsage(status);
  showErrors(status.errors, status.denied_peers);
  tick();
}

/** The state, in large. Said only if it is another: it is read aloud. */
function showState() {
  const { ready, reasons, upstream } = report;
  const token = report.tokens.find(({ plane }) => plane === "data");
  const advice = token?.last_failure?.to_mend_it;
  const told = reasons.map(({ code, message }) => ({ code, message }));
  if (!isNews("state", [ready, told, upstream, advice])) return;
  setState(ready ? "ready" : "not-ready", ready ? "Ready" : "Not ready", ready ? `Requests go to ${upstream.replace(/^https?:\/\//, "")} with a valid token.` : "");
  at("reasons").replaceChildren(...told.map((reason) => reasonOf(reason, advice)));
}

/** What is in the way, and what a person can do about it apart. */
function reasonOf({ message }, advice) {
  const end = advice ? `. To mend it: ${advice}` : "";
  if (!end || !message.endsWith(end)) return make("li", {}, message);
  return make("li", {}, `${message.slice(0, -end.length)}.`, make("span", { class: "mend" }, `To mend it: ${advice}`));
}

/** @param {"ready"|"not-ready"|"unknown"} state */
function setState(state, word, says) {
  at("state").dataset.state = state;
  say(at("state-word"), word);
  say(at("state-says"), says);
  document.title = `${word} · aoai-auth-proxy`;
  const colours = { ready: "17a05d", "not-ready": "e0483d", unknown: "78828f" };
  at("icon").href = at("icon").href.replace(/%23[0-9a-f]{6}/, `%23${colours[state]}`);
}

function showNumbers({ requests }) {
  say(at("n-requests"), count(requests.total));
  say(at("n-errors"), count(requests.errors));
  at("n-errors").className = slots.some((slot) => slot.errors) ? "bad" : "";
  say(at("n-in-flight"), count(requests.in_flight));
  say(at("n-connections"), count(requests.open_connections));
}

function showIdentity({ credential, identity, upstream, tokens: held }) {
  const { kind, source } = credential;
  say(at("f-credential"), source && source !== kind ? `${kind}: ${source}` : kind);
  say(at("f-principal"), identity?.object_id ?? "–");
  say(at("f-application"), identity?.app_id ?? "–");
  say(at("f-tenant"), identity?.tenant_id ?? "–");
  say(at("f-audience"), identity?.audience ?? "–");
  say(at("f-upstream"), upstream);
  const management = held.find(({ plane }) => plane === "management");
  say(at("f-management"), management ? MANAGEMENT[management.state] ?? management.state : "–");
  if (isNews("passed over", credential.passed_over)) showPassedOver(credential.passed_over);
}

const MANAGEMENT = {
  valid: "token held",
  expired: "the token has expired",
  unavailable: "no token could be had",
  pending: "not asked yet",
};

function showPassedOver(passed) {
  const items = passed.map(({ credential, reason }) => make("li", {}, `${credential}: ${reason}`));
  at("passed-over").hidden = !items.length;
  at("passed-over").replaceChildren("Passed over:", make("ul", {}, ...items));
}

/** In place of the time that is left, and beside it. */
const TOKEN_STATES = {
  valid: ["–", "until the token expires"],
  expired: ["Expired", "and not renewed in time"],
  unavailable: ["None", "no token could be had"],
  pending: ["None yet", "the first token is awaited"],
};

function showToken({ tokens: held }) {
  const token = held.find(({ plane }) => plane === "data");
  if (!token) return;
  const { renewals, failures, failures_in_a_row: inARow } = token;
  say(at("t-what"), TOKEN_STATES[token.state]?.[1] ?? token.state);
  at("t-left").parentElement.className = token.state === "valid" || token.state === "pending" ? "count" : "count bad";
  say(at("t-last"), token.last_renewal ? timeOf(new Date(token.last_renewal)) : "–");
  const failed = failures ? `, ${count(failures)} failed${inARow ? ` (${count(inARow)} in a row)` : ""}` : "";
  say(at("t-count"), `${count(renewals)} done${failed}`);
}

/** What the clock alone changes. */
function tick() {
  if (!report) return;
  say(at("n-uptime"), countdown(report.uptime_seconds + (now() - reportedAt) / 1000));
  const token = report.tokens.find(({ plane }) => plane === "data");
  if (!token) return;
  const [expires, last, next] = ["expires_at", "last_renewal", "next_renewal"].map((name) => Date.parse(token[name]));
  say(at("t-left"), token.expires_at ? countdown((expires - now()) / 1000) : TOKEN_STATES[token.state]?.[0] ?? "–");
  say(at("t-expires"), token.expires_at ? timeOf(new Date(expires)) : "–");
  say(at("t-next"), token.next_renewal ? `in ${countdown((next - now()) / 1000)}, at ${timeOf(new Date(next))}` : "–");
  showBar(last, next, expires);
}

/** How much of the token's life is left, and where it is renewed. */
function showBar(last, next, expires) {
  const bar = at("t-bar");
  const part = (time) => `${Math.min(100, Math.max(0, ((time - last) / (expires - last)) * 100))}%`;
  bar.hidden = !(expires > last);
  bar.children[0].style.width = part(now());
  bar.children[1].style.left = part(next);
  bar.children[1].hidden = !(next < expires);
}

function showUsage({ usage, usage_left_out: leftOut, ledger }) {
  const rows = usage.map((used) => [
    appName(used.app), used.model, count(used.requests), tokens(used.input), tokens(used.cached), tokens(used.output), tokens(used.reasoning),
  ]);
  fill(at("usage"), rows, 2);
  const unknown = sum(usage.map((used) => used.unknown));
  const notes = [
    !rows.length && "Nothing yet.",
    unknown && `Of ${count(unknown)} answered requests the tokens are not known.`,
    leftOut && `${count(leftOut)} more rows, with fewer tokens, are in /status.`,
    ledger?.failing && `The usage ledger cannot be written; ${count(ledger.waiting)} answers wait for that in memory. The log says why.`,
    ledger?.dropped && `The usage ledger lacks ${count(ledger.dropped)} answers: too much waited to be written.`,
  ];
  say(at("usage-note"), notes.filter(Boolean).join(" "));
}

function showErrors(errors, denied) {
  if (!isNews("errors", [errors, denied])) return;
  at("errors").replaceChildren(...errors.map(errorLine));
  say(at("errors-note"), errors.length ? "" : "None.");
  const whose = (uid) => (typeof uid === "number" ? `the user ${uid}` : uid ?? "a user that the system does not name");
  at("denied").replaceChildren(...denied.map(({ uid, count: times, last_at: last }) =>
    make("li", {}, `Connections of ${whose(uid)} denied (access.peer_users): ${count(times)}, last at ${timeOf(new Date(last))}`)));
}

function errorLine({ at: when, status, code, message, hint, app, model, id, count: times }) {
  const what = make("div", { class: "what" }, make("time", { datetime: when }, timeOf(new Date(when))));
  if (status) what.append(make("b", {}, String(status)));
  if (code) what.append(make("code", {}, code));
  what.append(make("span", { class: "who" }, [appName(app), model].filter(Boolean).join(" · ")));
  if (times > 1) what.append(make("span", { class: "times" }, `${count(times)} times`));
  if (id) what.append(make("span", { class: "id", title: `request ${id}` }, id.length > 12 ? `${id.slice(0, 8)}…` : id));
  const line = make("li", {}, what, make("div", {}, message));
  if (hint) line.append(make("div", { class: "hint" }, hint));
  return line;
}
