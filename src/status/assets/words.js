// How values are written, and how they get into the page: as text, always.

/** The element of this id. */
const at = (id) => document.getElementById(id);

/** A new element. Strings among the children become text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Puts text in place, and leaves what is the same alone: selections and screen readers stay where they are. */
function say(element, text) {
  const said = String(text);
  if (element.textContent !== said) element.textContent = said;
}

/** Whether `value` differs from what was last seen under `name`. */
const seen = new Map();
function isNews(name, value) {
  const text = JSON.stringify(value);
  if (seen.get(name) === text) return false;
  seen.set(name, text);
  return true;
}

/** The server's clock less ours: pages are looked at from other machines too, and either clock may be set meanwhile. */
let skew = 0;

/** The server says what time it is. */
function setClock(time) {
  const off = Date.parse(time) - Date.now();
  skew = Math.abs(off) > 3000 ? off : 0;
}

setClock(document.documentElement.dataset.now);

/** The server's time, in milliseconds. */
const now = () => Date.now() + skew;

const grouped = new Intl.NumberFormat("en");
const rounded = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** A count, tokens, a rate, a length of time in milliseconds; an en dash for what is not known. */
const count = (n) => (n == null ? "–" : n >= 1e6 ? compact.format(n) : grouped.format(n));
const tokens = (n) => (n >= 1e5 ? compact.format(n) : count(n));
const rate = (n) => (n == null ? "–" : n >= 1000 ? compact.format(n) : rounded.format(n));
const millis = (n) => (n == null ? "–" : n >= 1000 ? `${rounded.format(n / 1000)} s` : `${rounded.format(n)} ms`);

const two = (n) => String(n).padStart(2, "0");

/** Hours and minutes of the day, and seconds; with the day unless that is today. */
const minuteOf = (date) => `${two(date.getHours())}:${two(date.getMinutes())}`;
function timeOf(date) {
  const time = `${minuteOf(date)}:${two(date.getSeconds())}`;
  const isToday = date.toDateString() === new Date(now()).toDateString();
  return isToday ? time : `${date.toLocaleDateString("en", { day: "numeric", month: "short" })}, ${time}`;
}

/** A length of time in seconds, as a clock counts it down. */
function countdown(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  const days = Math.floor(left / 86400);
  const clock = `${two(Math.floor(left / 3600) % 24)}:${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`;
  return days ? `${days} d ${clock}` : clock;
}

/** Whose request it was: `-` is whoever is no known app. */
const appName = (name) => (name === "-" ? "no app" : name);

/** Rows of text in a table's body; those that are there are kept. Columns from `numbers` on are numbers; others may be cut. */
function fill(body, rows, numbers) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, i) => {
    const row = body.rows[i] ?? body.insertRow();
    cells.forEach((text, j) => {
      const cell = row.cells[j] ?? row.insertCell();
      if (j >= numbers) cell.className = "n";
      else cell.title = text;
      say(cell, text);
    });
  });
}
