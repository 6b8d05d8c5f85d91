// The charts: uPlot draws them; beside each is a legend with values, and the same in words.

const SPAN = 15 * 60;
const MOST_SERIES = 6;
const figures = [];
let step = 5;
let slots = [];

/** A slot in which nothing happened. */
const quiet = (time) => ({ at: time, requests: 0, errors: 0, first_byte_ms: { p50: null, p99: null }, tokens: [] });

/** Takes the whole history. */
function takeHistory(history) {
  step = history.step_seconds;
  slots = history.slots;
  drawAll();
}

/** Takes the newest slot, or the last one again. */
function takeSlot(slot) {
  advance(slot.at);
  const index = slots.findLastIndex((known) => known.at === slot.at);
  if (index >= 0) slots[index] = slot;
  else if (!slots.length || slots.at(-1).at < slot.at) slots.push(slot);
  drawAll();
}

/** Time goes on where nothing happens, too. */
function advance(time) {
  const most = SPAN / step;
  if (!slots.length) return;
  const missing = Math.floor((time - slots.at(-1).at) / step);
  // After a long sleep only what can be seen is made.
  const first = slots.at(-1).at + Math.max(0, missing - most) * step;
  for (let i = 1; i <= Math.min(missing, most); i++) slots.push(quiet(first + i * step));
  if (slots.length > most) slots = slots.slice(-most);
}

/** The slots that are over: the one that is not would look like a fall. */
function whole() {
  const time = now() / 1000;
  return slots.filter((slot) => slot.at + step <= time);
}

/** Which app and model have which colour; whoever has one keeps it as long as it is among the greatest. */
const colours = new Map();
const OTHERS = "others";
const label = ({ app, model }) => (app === OTHERS && model === OTHERS ? OTHERS : `${appName(app)} · ${model}`);

function assignColours(list) {
  const totals = new Map();
  for (const slot of list) {
    for (const used of slot.tokens) totals.set(label(used), (totals.get(label(used)) ?? 0) + used.total);
  }
  const hasOthers = totals.delete(OTHERS) || totals.size > MOST_SERIES;
  const byTotal = [...totals].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const chosen = new Set(byTotal.slice(0, MOST_SERIES));
  for (const name of colours.keys()) if (!chosen.has(name)) colours.delete(name);
  for (const name of chosen) {
    if (colours.has(name)) continue;
    const taken = new Set(colours.values());
    colours.set(name, [1, 2, 3, 4, 5, 6].find((colour) => !taken.has(colour)));
  }
  return hasOthers;
}

/** The series of the tokens' chart: names, colours and values a second, from the bottom of the stack to its top. */
function tokenSeries(list) {
  const hasOthers = assignColours(list);
  const series = [...colours].sort((a, b) => a[1] - b[1]).map(([name, colour]) => ({ name, colour }));
  if (hasOthers) series.push({ name: OTHERS, colour: 7 });
  const places = new Map(series.map(({ name }, index) => [name, index]));
  for (const one of series) one.values = new Array(list.length).fill(0);
  list.forEach((slot, i) => {
    for (const used of slot.tokens) {
      series[places.get(label(used)) ?? series.length - 1].values[i] += used.total / step;
    }
  });
  return series;
}

const line = (name, colour, values) => ({ name, colour, values });
const sum = (values) => values.reduce((all, value) => all + (value ?? 0), 0);
const greatest = (values) => values.reduce((most, value) => Math.max(most, value ?? 0), 0);

/** What each chart shows, of which slots, and how that is said. */
const CHARTS = [
  {
    id: "requests",
    filled: true,
    write: rate,
    series: (list) => [
      line("requests/s", "--s1", list.map((slot) => slot.requests / step)),
      { ...line("errors/s", "--bad", list.map((slot) => slot.errors / step)), isBar: true },
    ],
    words: ([requests, errors]) =>
      `${count(Math.round(sum(requests) * step))} requests and ${count(Math.round(sum(errors) * step))} errors, ` +
      `at most ${rate(greatest(requests))} requests a second`,
  },
  {
    id: "first",
    write: millis,
    series: (list) => [
      line("p50", "--s1", list.map((slot) => slot.first_byte_ms.p50)),
      line("p99", "--s2", list.map((slot) => slot.first_byte_ms.p99)),
    ],
    words: ([p50, p99]) => `p50 at most ${millis(greatest(p50))}, p99 at most ${millis(greatest(p99))}`,
  },
  {
    id: "tokens",
    stacked: true,
    write: rate,
    series: (list) => tokenSeries(list).map((one) => ({ ...one, colour: `--s${one.colour}` })),
    words: (all, series) =>
      series.map((one) => `${one.name} ${count(Math.round(sum(one.values) * step))} tokens`).join(", "),
  },
];

/** Draws everything anew, from what is known now. */
function drawAll() {
  if (document.hidden || at("live").hidden) return;
  const list = whole();
  for (const chart of CHARTS) draw(chart, list);
  fillMinutes(list);
}

function draw(chart, list) {
  const series = chart.series(list);
  const figure = figureOf(chart, series);
  figure.series = series;
  const hasData = series.some((one) => one.values.some((value) => value > 0));
  figure.none.hidden = hasData;
  const times = list.map((slot) => slot.at);
  // A slot is as wide as its time: the last one too.
  const withEnd = (values) => [...values, ...values.slice(-1)];
  figure.plot.setData([[...times, ...times.slice(-1).map((time) => time + step)], ...heights(chart, series).map(withEnd)]);
  const words = hasData ? chart.words(series.map((one) => one.values), series) : "nothing yet";
  figure.box.setAttribute("aria-label", `${figure.title}, last 15 minutes: ${words}`);
  legend(figure);
}

/** What is drawn: of stacked series the sums up to each, the highest first, so that the lower ones cover it. */
function heights(chart, series) {
  if (!chart.stacked) return series.map((one) => one.values);
  const below = series[0]?.values.map(() => 0) ?? [];
  return series.map((one) => one.values.map((value, i) => (below[i] += value))).reverse();
}

/** The figure of a chart, made anew if it has other series than before. */
function figureOf(chart, series) {
  const key = series.map((one) => one.name + one.colour).join("\n");
  const known = figures.find((figure) => figure.chart === chart);
  if (known?.key === key) return known;
  const box = at(`c-${chart.id}`);
  known?.plot.destroy();
  const none = known?.none ?? box.appendChild(make("p", { class: "none" }, "No traffic in the last 15 minutes"));
  const title = at(`h-${chart.id}`).firstChild.textContent.trim();
  const figure = { chart, key, box, none, title, list: at(`l-${chart.id}`), cursor: null };
  figure.list.replaceChildren();
  figure.plot = plot(figure, series);
  if (known) figures.splice(figures.indexOf(known), 1);
  figures.push(figure);
  return figure;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Points that no line leads to would not be seen. */
function lonely(u, index) {
  const values = u.data[index];
  const isLonely = (value, i) => value != null && values[i - 1] == null && values[i + 1] == null;
  return values.flatMap((value, i) => (isLonely(value, i) ? [i] : []));
}

function plot(figure, series) {
  const { chart, box } = figure;
  const shown = chart.stacked ? [...series].reverse() : series;
  const paths = uPlot.paths.stepped({ align: 1 });
  const bars = uPlot.paths.bars({ align: 1, size: [1, 20] });
  const style = (one) => {
    const ink = colour(one.colour);
    if (chart.stacked) return { stroke: colour("--card"), width: box.clientWidth > 700 ? 1 : 0.4, fill: ink, paths, points: { show: false } };
    if (one.isBar) return { stroke: ink, width: 0, fill: ink, paths: bars, points: { show: false } };
    if (chart.filled) return { stroke: ink, width: 1.5, fill: `${ink}20`, paths, points: { show: false } };
    return { stroke: ink, width: 2, points: { show: true, size: 5, fill: ink, filter: lonely } };
  };
  const axis = { stroke: colour("--dim"), font: "11px system-ui", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const options = {
    width: box.clientWidth,
    height: box.clientHeight,
    padding: [8, 4, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: "time" }, points: { show: !chart.stacked, size: 7 } },
    scales: {
      x: { time: true, range: () => [now() / 1000 - SPAN, now() / 1000] },
      y: { range: (u, least, most) => [0, most > 0 ? most * 1.15 : 1] },
    },
    axes: [
      { ...axis, space: 70, values: (u, times) => times.map((time) => minuteOf(new Date(time * 1000))), grid: { show: false }, size: 24 },
      { ...axis, size: 50, space: 36, values: (u, values) => values.map(chart.write) },
    ],
    series: [{}, ...shown.map(style)],
    hooks: { setCursor: [(u) => { figure.cursor = u.cursor.idx; legend(figure); }] },
  };
  return new uPlot(options, [[], ...shown.map(() => [])], box);
}

/** Names, colours, and the values where the pointer is, else the newest. */
function legend(figure) {
  const { chart, list, series, plot: u } = figure;
  if (!series || !u) return;
  const times = u.data[0].slice(0, -1);
  const index = Math.min(figure.cursor ?? Infinity, times.length - 1);
  series.forEach((one, i) => {
    const item = list.children[i] ?? list.appendChild(make("li", {}, make("i"), make("span"), make("b")));
    item.children[0].style.background = `var(${one.colour})`;
    say(item.children[1], one.name);
    say(item.children[2], chart.write(one.values[index]));
  });
  const when = list.children[series.length] ?? list.appendChild(make("li", { class: "when" }));
  say(when, series.length && times[index] ? timeOf(new Date(times[index] * 1000)) : "");
}

/** The table: what the charts show, for those who do not see them. */
function fillMinutes(list) {
  if (!at("numbers-table").open) return;
  const minutes = new Map();
  for (const slot of list) {
    const minute = Math.floor(slot.at / 60) * 60;
    minutes.set(minute, [...(minutes.get(minute) ?? []), slot]);
  }
  const rows = [...minutes].reverse().map(([minute, within]) => {
    const total = (read) => count(sum(within.map(read)));
    const known = (name) => within.map((slot) => slot.first_byte_ms[name]).filter((value) => value != null).sort((a, b) => a - b);
    const p50 = known("p50");
    return [
      minuteOf(new Date(minute * 1000)), total((slot) => slot.requests), total((slot) => slot.errors),
      millis(p50[p50.length >> 1]), millis(known("p99").at(-1)),
      total((slot) => sum(slot.tokens.map((used) => used.total))),
    ];
  });
  fill(at("minutes"), rows, 1);
}

/** Colours and widths are what they are when a chart is made or told. */
function watchCharts() {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const figure of figures) figure.key = "";
    drawAll();
  });
  const sizes = new ResizeObserver(() => {
    for (const { plot: u, box } of figures) u.setSize({ width: box.clientWidth, height: box.clientHeight });
  });
  for (const chart of CHARTS) sizes.observe(at(`c-${chart.id}`));
  document.addEventListener("visibilitychange", drawAll);
  at("numbers-table").addEventListener("toggle", drawAll);
}
