// A real browser, what it asks for and complains about, and what axe finds in a page.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** A machine without a way out answers none of what a browser asks for of its own. */
const QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export function launch() {
  const isRoot = process.getuid?.() === 0;
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: [...QUIET, ...(isRoot ? ["--no-sandbox"] : [])],
  });
}

/** Opens a page. `asked` are the addresses that it asks for, `complaints` what the browser says against it. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  const [asked, complaints] = [[], []];
  await context.route("**/*", (route) => {
    asked.push(route.request().url());
    return new URL(route.request().url()).origin === new URL(url).origin ? route.continue() : route.abort();
  });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  const response = await page.goto(url);
  return { context, page, asked, complaints, response };
}

/** Opens a page and waits until it is live. */
export async function openLive(browser, url, options) {
  const opened = await open(browser, url, options);
  await opened.page.locator('html[data-link="live"]').waitFor();
  return opened;
}

/** Waits until the element has this text, or a text like it. */
export async function untilText(page, selector, expected) {
  await page.waitForFunction(
    ([place, source, flags]) => new RegExp(source, flags).test(document.querySelector(place)?.textContent ?? ""),
    expected instanceof RegExp ? [selector, expected.source, expected.flags] : [selector, `^${RegExp.escape?.(expected) ?? expected.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`, ""],
  );
}

/** What axe finds that keeps people out, each on a line. */
export async function accessibility(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`);
}
