// What a person sees at `/`, in a real browser, before the emulator.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessibility, launch, open, openLive, untilText } from "./browser.mjs";
import { Program, ask, emulator, serve } from "./programs.mjs";
import { told } from "./told.mjs";

const APP_AND_MODEL = [["website", "gpt-4o"], ["batch", "text-embedding-3-small"], ["editor", "gpt-4.1"], ["nobody", "gpt-4o-mini"]];
let azure, proxy, browser;

before(async () => {
  azure = await emulator();
  proxy = await serve(azure);
  browser = await launch();
  // The first request waits for the first token.
  assert.equal(await ask(proxy.url, "website", "gpt-4o"), 200);
});

after(async () => {
  await browser?.close();
  Program.killAll();
});

/** A test with a page of its own that must not complain, nor ask anybody but the proxy. */
function live(name, body, options) {
  test(name, async () => {
    const opened = await openLive(browser, `${proxy.url}/`, options);
    await body(opened);
    assert.deepEqual(opened.complaints, []);
    const origins = new Set(opened.asked.map((address) => new URL(address).origin));
    assert.deepEqual([...origins], [proxy.url]);
    await opened.context.close();
  });
}

const statusOf = async (url) => (await fetch(`${url}/status`)).json();
const textOf = (page, selector) => page.locator(selector).textContent();

/** Requests as apps make them, and whether each was answered. */
async function traffic(url, rounds) {
  for (let round = 0; round < rounds; round++) {
    const statuses = await Promise.all(APP_AND_MODEL.map(([app, model]) => ask(url, app, model)));
    assert.deepEqual(statuses, APP_AND_MODEL.map(() => 200));
  }
}

/** How many points of a chart have a colour of its series. */
const painted = (page, selector, variable) =>
  page.evaluate(([place, name]) => {
    const canvas = document.querySelector(`${place} canvas`);
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    let points = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 60 && data[i + 3] > 128) points++;
    }
    return points;
  }, [selector, variable]);

live("it says how things are, who we are, until when, and where requests go", async ({ page }) => {
  const { identity, upstream, version } = await statusOf(proxy.url);
  await untilText(page, "#state-word", "Ready");
  assert.equal(await page.title(), "Ready · aoai-auth-proxy");
  assert.equal(await textOf(page, "#f-principal"), identity.object_id);
  assert.equal(await textOf(page, "#f-tenant"), identity.tenant_id);
  assert.equal(await textOf(page, "#f-credential"), "managed-identity");
  assert.equal(await textOf(page, "#f-upstream"), upstream);
  assert.match(await textOf(page, "h1"), new RegExp(version));
  assert.match(await textOf(page, "#t-left"), /^23:[0-5]\d:[0-5]\d$/);
  assert.match(await textOf(page, "#t-next"), /^in 1[01]:\d\d:\d\d, at /);
});

live("it is one answer under a strict policy, and asks for the events and the deployments only", async ({ page, response, asked }) => {
  const policy = response.headers()["content-security-policy"];
  assert.match(policy, /^default-src 'none'; script-src 'sha256-/);
  assert.doesNotMatch(policy, /unsafe|\*/);
  assert.ok((await response.body()).length < 120 * 1024);
  await page.locator("#deployments tr").first().waitFor();
  const paths = asked.map((address) => new URL(address).pathname);
  assert.deepEqual(paths.sort(), ["/", "/management/deployments", "/status/events"]);
});

test("what the policy forbids is not done, and heard of here", async () => {
  const { page, complaints, context } = await openLive(browser, `${proxy.url}/`);
  await page.evaluate(() => document.body.append(Object.assign(document.createElement("style"), { textContent: "body { display: none }" })));
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).display), "block");
  assert.match(complaints.join("\n"), /Content Security Policy/);
  await context.close();
});

live("counts rise while traffic runs, and the charts and tables have it", async ({ page }) => {
  const number = async () => Number((await textOf(page, "#n-requests")).replaceAll(",", ""));
  await untilText(page, "#n-requests", /^\d/);
  const before = await number();
  await traffic(proxy.url, 6);
  await page.waitForFunction((least) => Number(document.querySelector("#n-requests").textContent.replaceAll(",", "")) >= least, before + 24);
  for (const [app, model] of APP_AND_MODEL) {
    await untilText(page, "#usage", new RegExp(`${app === "nobody" ? "no app" : app}${model}`));
    await untilText(page, "#l-tokens", new RegExp(`${app === "nobody" ? "no app" : app} · ${model}`));
  }
  for (const id of ["requests", "first", "tokens"]) {
    await page.waitForFunction((place) => /: .*[1-9]/.test(document.querySelector(place).getAttribute("aria-label").replace("15 minutes", "")), `#c-${id}`);
  }
  const total = (await statusOf(proxy.url)).requests.total;
  await page.waitForFunction((expected) => document.querySelector("#c-requests").getAttribute("aria-label").includes(`${expected} requests`), total);
  for (const [place, variable] of [["#c-requests", "--s1"], ["#c-first", "--s2"], ["#c-tokens", "--s1"], ["#c-tokens", "--s2"]]) {
    assert.ok((await painted(page, place, variable)) > 5, `${place} ${variable}`);
  }
  await page.locator("#numbers-table summary").click();
  await page.locator("#minutes tr").first().waitFor();
});

live("an error is listed with its hint", async ({ page }) => {
  assert.equal(await ask(proxy.url, "website", "no-such-deployment"), 404);
  await untilText(page, "#errors", /404deployment_not_foundwebsite · no-such-deployment/);
  await page.locator("#errors .hint").first().waitFor();
  assert.match(await textOf(page, "#errors .hint"), /no-such-deployment/);
  await untilText(page, "#n-errors", /[1-9]/);
});

live("the deployments are listed", async ({ page }) => {
  await untilText(page, "#deployments", /text-embedding-3-small/);
  const { value } = await (await fetch(`${proxy.url}/management/deployments`)).json();
  assert.equal(await page.locator("#deployments tr").count(), value.length);
});

live("buttons copy what they stand beside", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const copied = () => page.evaluate(() => navigator.clipboard.readText());
  await page.getByRole("button", { name: "Copy the base URL" }).click();
  await page.getByText("Copied").waitFor();
  assert.equal(await copied(), `${proxy.url}/v1`);
  await page.getByRole("tab", { name: "curl" }).click();
  await page.getByRole("button", { name: "Copy the example" }).click();
  await page.waitForFunction(async () => (await navigator.clipboard.readText()).startsWith("curl"));
  assert.match(await copied(), new RegExp(`^curl -N ${proxy.url}/v1/chat/completions`));
  // Where a page may not write to the clipboard, the old way is left.
  await page.evaluate(() => { navigator.clipboard.writeText = () => Promise.reject(new Error("no")); });
  await page.getByRole("tab", { name: "Shell" }).click();
  await page.getByRole("button", { name: "Copy the example" }).click();
  await page.waitForFunction(async () => (await navigator.clipboard.readText()).startsWith("export"));
  assert.equal(await copied(), `export OPENAI_BASE_URL=${proxy.url}/v1\nexport OPENAI_API_KEY=unused`);
});

live("the keyboard reaches everything, and one sees where it is", async ({ page }) => {
  await page.locator("#deployments tr").first().waitFor();
  const expected = await page.evaluate(() => {
    const all = [...document.querySelectorAll("a[href], button, summary, [tabindex]")];
    const reachable = all.filter((element) => element.tabIndex >= 0 && element.checkVisibility());
    reachable.forEach((element, i) => { element.dataset.order = i; });
    return reachable.length;
  });
  assert.ok(expected >= 8, `${expected}`);
  for (let i = 0; i < expected; i++) {
    await page.keyboard.press("Tab");
    const [order, outline] = await page.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return [document.activeElement.dataset.order, `${outlineStyle} ${outlineWidth}`];
    });
    assert.equal(order, String(i));
    assert.equal(outline, "solid 2px");
  }
  await page.getByRole("tab", { name: "Shell" }).focus();
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Python");
  await page.getByRole("tabpanel", { name: "Python" }).waitFor();
  await page.keyboard.press("End");
  await page.getByRole("tabpanel", { name: "curl" }).waitFor();
  await page.keyboard.press("ArrowRight");
  await page.getByRole("tabpanel", { name: "Shell" }).waitFor();
});

for (const colorScheme of ["light", "dark"]) {
  live(`axe finds nothing serious, ${colorScheme}`, async ({ page }) => {
    assert.equal(await ask(proxy.url, "website", "no-such-deployment"), 404);
    await page.locator("#errors .hint").first().waitFor();
    await page.locator("#deployments tr").first().waitFor();
    assert.deepEqual(await accessibility(page), []);
  }, { colorScheme });
}

live("nothing is wider than a phone", async ({ page }) => {
  await page.locator("#usage tr").first().waitFor();
  await page.locator("#deployments tr").first().waitFor();
  const [needed, given] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.equal(given, 360);
  assert.ok(needed <= given, `${needed}`);
}, { viewport: { width: 360, height: 740 } });

live("nothing moves for those who asked for that", async ({ page }) => {
  const animation = () => page.evaluate(() => getComputedStyle(document.querySelector("#link"), "::before").animationName);
  assert.equal(await animation(), "none");
  await page.emulateMedia({ reducedMotion: "no-preference" });
  assert.equal(await animation(), "beat");
}, { reducedMotion: "reduce" });

test("without scripts it still says how things are, and what is missing", async () => {
  const { page, context } = await open(browser, `${proxy.url}/`, { javaScriptEnabled: false });
  const { identity, upstream } = await statusOf(proxy.url);
  const text = await page.locator("body").innerText();
  for (const expected of ["Ready", identity.object_id, identity.tenant_id, upstream, `${proxy.url}/v1`, "Without JavaScript", "curl -N"]) {
    assert.ok(text.includes(expected), expected);
  }
  assert.ok(!text.includes("Latest errors"));
  await context.close();
});

test("an identity that fails is shown, and that it is back", async () => {
  // Tokens that are over in a moment, so that the failure is felt.
  await azure.control("POST", "/tokens", { lifetime: 14, metadata_cache: false });
  const other = await serve(azure);
  assert.equal(await ask(other.url, "website", "gpt-4o"), 200);
  const { page, complaints, context } = await openLive(browser, `${other.url}/`);
  await untilText(page, "#state-word", "Ready");
  // These need a token too: the browser would complain that there is none.
  await page.locator("#deployments tr").first().waitFor();
  await azure.control("POST", "/faults", { route: "imds", action: { kind: "status", status: 500 } });
  await untilText(page, "#state-word", "Not ready");
  await untilText(page, "#reasons", /500/);
  await untilText(page, "#t-left", "Expired");
  await untilText(page, "#t-count", /failed/);
  assert.equal(await page.title(), "Not ready · aoai-auth-proxy");
  await picture(page, "not-ready");
  await azure.control("POST", "/tokens", { lifetime: 24 * 3600, metadata_cache: true });
  await azure.control("DELETE", "/faults");
  await untilText(page, "#state-word", "Ready");
  assert.equal(await textOf(page, "#reasons"), "");
  assert.deepEqual(complaints, []);
  await context.close();
  await other.program.stop();
});

test("a proxy that is gone is not shown as one that is there; and it may come back", async () => {
  const first = await serve(azure);
  assert.equal(await ask(first.url, "website", "gpt-4o"), 200);
  const { page, context } = await openLive(browser, `${first.url}/`);
  await untilText(page, "#t-left", /\d/);
  await first.program.stop();
  await untilText(page, "#link", /^Not connected, since \d\d:\d\d:\d\d$/);
  await untilText(page, "#state-word", "Not connected");
  assert.equal(await textOf(page, "#t-left"), "–");
  assert.equal(await page.title(), "Not connected · aoai-auth-proxy");
  assert.ok(await page.evaluate(() => Number(getComputedStyle(document.querySelector("#live")).opacity) < 1));
  await picture(page, "not-connected");
  const again = await serve(azure, { address: new URL(first.url).host });
  assert.equal(await ask(again.url, "website", "gpt-4o"), 200);
  await page.locator('html[data-link="live"]').waitFor();
  await untilText(page, "#state-word", "Ready");
  await context.close();
  await again.program.stop();
});

test("whatever the proxy tells is text; advice stands apart; more than six kinds of tokens are others", async (t) => {
  const status = await statusOf(proxy.url);
  const evil = "<img src=x onerror=alert(1)><b>&amp;";
  const now = Math.floor(Date.now() / 5000) * 5;
  const tokens = Array.from({ length: 9 }, (_, i) => ({ app: evil, model: `model-${i}`, total: 100 + i }));
  tokens.push({ app: "others", model: "others", total: 7 });
  const slots = [20, 15, 10, 5].map((ago) => ({ at: now - ago, requests: 2, errors: 1, first_byte_ms: { p50: 1, p99: 2 }, tokens }));
  const advice = `run ${evil}`;
  const server = await told(proxy.url, [["status", {
    ...status,
    ready: false,
    reasons: [{ code: "credential_unavailable", message: `no token. To mend it: ${advice}` }],
    tokens: [{ ...status.tokens[0], state: "unavailable", expires_at: null, last_failure: { at: "2026-01-01T00:00:00Z", message: "no token", to_mend_it: advice } }],
    usage: [{ app: evil, model: evil, requests: 1, unknown: 1, input: 1, cached: 1, output: 1, reasoning: 1 }],
    errors: [{ at: "2026-01-01T00:00:00Z", status: null, code: null, message: evil, hint: evil, app: evil, model: null, id: null, count: 2 }],
    denied_peers: [{ uid: "others", count: 1, last_at: "2026-01-01T00:00:00Z" }],
    lists_deployments: false,
  }], ["history", { step_seconds: 5, slots }]]);
  t.after(server.close);
  const { page, complaints, context } = await openLive(browser, server.url);
  await untilText(page, "#state-word", "Not ready");
  assert.equal(await textOf(page, "#reasons .mend"), `To mend it: ${advice}`);
  await untilText(page, "#errors", /2 times/);
  assert.equal(await textOf(page, "#errors .hint"), evil);
  assert.equal(await textOf(page, "#usage td:first-child"), evil);
  assert.match(await textOf(page, "#denied"), /others/);
  assert.match(await textOf(page, "#deployments-note"), /management\.subscription_id/);
  assert.equal(await page.locator("#l-tokens li:not(.when)").count(), 7);
  await untilText(page, "#l-tokens", /others62/);
  assert.equal(await page.locator("img").count(), 0);
  assert.deepEqual(await accessibility(page), []);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("without a key nothing is asked for that needs one", async (t) => {
  const status = { ...(await statusOf(proxy.url)), requires_key: true, ledger: { failing: true, waiting: 3, dropped: 2 }, usage_left_out: 4 };
  const server = await told(proxy.url, [["status", status]]);
  t.after(server.close);
  const { page, asked, context } = await openLive(browser, server.url);
  await untilText(page, "#deployments-note", /access\.require_key/);
  await untilText(page, "#usage-note", /4 more rows.* 3 answers wait .* lacks 2 answers/);
  assert.deepEqual(asked.map((address) => new URL(address).pathname).sort(), ["/", "/status/events"]);
  await context.close();
});

test("a clock that is set while one looks is noticed", async (t) => {
  const status = await statusOf(proxy.url);
  const expires = Date.parse(status.tokens[0].expires_at);
  const at = (left) => ["status", { ...status, now: new Date(expires - left).toISOString() }];
  const server = await told(proxy.url, [at(7_200_000), at(3_600_000)]);
  t.after(server.close);
  const { page, context } = await openLive(browser, server.url);
  await untilText(page, "#t-left", /^(00:59|01:00)/);
  await context.close();
});

live("while nobody looks nothing is told", async ({ page, asked }) => {
  const hide = (isHidden) => page.evaluate((is) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => is });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
  await untilText(page, "#state-word", "Ready");
  await hide(true);
  await untilText(page, "#link", "Paused");
  assert.equal(await page.title(), "Paused · aoai-auth-proxy");
  await hide(false);
  await untilText(page, "#link", "Live");
  await untilText(page, "#state-word", "Ready");
  assert.equal(asked.filter((address) => address.endsWith("/status/events")).length, 2);
});

test("one viewer too many is told all the same, and watches once there is room", async (t) => {
  const server = await told(proxy.url, null);
  t.after(server.close);
  const { page, context } = await open(browser, server.url);
  await untilText(page, "#link", /^Too many viewers/);
  await untilText(page, "#state-word", "Ready");
  await untilText(page, "#n-requests", /\d/);
  assert.deepEqual(await accessibility(page), []);
  await picture(page, "polled");
  server.admit([["status", await statusOf(proxy.url)]]);
  await page.locator('html[data-link="live"]').waitFor();
  await untilText(page, "#link", "Live");
  await page.locator("#c-requests").waitFor();
  await context.close();
});

for (const width of [1200, 360]) {
  test(`a long name is cut and told whole, and leaves room for numbers, ${width}`, async (t) => {
    const status = await statusOf(proxy.url);
    const long = "ft:gpt-4.1-mini-2025-04-14".padEnd(256, "-of-somebody");
    const used = (app, model) => ({ app, model, requests: 12, unknown: 0, input: 34, cached: 5, output: 67, reasoning: 8 });
    const usage = [used("website", "gpt-4o"), used("website", long), used("a".repeat(128), "o3")];
    const server = await told(proxy.url, [["status", { ...status, usage }]]);
    t.after(server.close);
    const { page, context } = await openLive(browser, server.url, { viewport: { width, height: 900 } });
    await untilText(page, "#usage", new RegExp(long));
    assert.equal(await page.locator("#usage tr:nth-child(2) td:nth-child(2)").getAttribute("title"), long);
    await picture(page, `long-name-${width}`);
    // As far as one sees without scrolling: all numbers, or on a phone the first two.
    const seen = await page.evaluate(() => {
      const end = document.querySelector("#usage").closest(".scroll").getBoundingClientRect().right;
      return [...document.querySelectorAll("#usage tr:first-child td.n")].filter((cell) => cell.getBoundingClientRect().right <= end + 1).length;
    });
    assert.ok(seen >= (width === 360 ? 2 : 5), `${seen}`);
    await context.close();
  });
}

test("the countdown goes by the clock alone", async (t) => {
  const server = await told(proxy.url, [["status", await statusOf(proxy.url)]]);
  t.after(server.close);
  const { page, context } = await openLive(browser, server.url);
  for (let i = 0; i < 3; i++) {
    const left = await textOf(page, "#t-left");
    await page.waitForFunction((before) => document.querySelector("#t-left").textContent < before, left);
  }
  await context.close();
});

/** For people to look at. */
async function picture(page, name) {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, fullPage: true });
}

for (const [name, options] of [
  ["light", {}], ["dark", { colorScheme: "dark" }], ["narrow", { viewport: { width: 360, height: 740 } }],
]) {
  live(`a picture is taken, ${name}`, async ({ page }) => {
    await page.locator("#deployments tr").first().waitFor();
    await picture(page, name);
  }, options);
}
