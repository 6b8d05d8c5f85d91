// Traffic as several apps make it, for a look at the page: node traffic.mjs URL SECONDS, before `demo` or `serve` with
// the apps `website`, `batch` and `editor`.
import { setTimeout as pause } from "node:timers/promises";
import { ask } from "./programs.mjs";

const [url, seconds] = process.argv.slice(2);
const begin = Date.now();

/** Who asks for which model, in how many seconds once, with a prompt how many times as long. */
const WISHES = [
  ["website", "gpt-4o-mini", 0.5, 12], ["website", "gpt-4o", 1.2, 20], ["batch", "text-embedding-3-small", 0.7, 90],
  ["batch", "gpt-4.1-mini", 0.9, 40], ["editor", "gpt-5", 2.2, 60], ["editor", "gpt-4.1", 1.8, 45],
  ["-", "gpt-4o-mini", 3, 6], ["batch", "gpt-4-turbo", 97, 1],
];

/** Between one half and one and a half, in slow waves of its own. */
const swing = (index) => 1 + 0.5 * Math.sin((Date.now() - begin) / 1000 / (37 + 23 * index) + index * 2);

async function wish([app, model, every, length], index) {
  while (Date.now() - begin < seconds * 1000) {
    await pause((every * 1000 * (0.4 + Math.random() * 1.2)) / swing(index));
    await ask(url, app, model, "Tell me about the sea, please. ".repeat(Math.ceil(length * swing(index))));
  }
}

await Promise.all(WISHES.map(wish));
