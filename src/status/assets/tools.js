// How to point a tool at it, what can be called, and buttons that copy.

/** Where a browser reaches the proxy, a tool beside it does too. */
function showAddresses() {
  for (const place of document.querySelectorAll("[data-base]")) say(place, `${location.origin}/v1`);
}

/** Copies text; where the clipboard is not to be had, the old way. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { readonly: "", "aria-label": "to copy" });
    area.value = text;
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}

/** A button that copies what `read` gives. */
function copyButton(name, read, kind = "copy") {
  const button = make("button", { type: "button", class: kind, "aria-label": `Copy ${name}` }, "Copy");
  button.addEventListener("click", async () => {
    say(button, (await copy(read())) ? "Copied" : "Not copied");
    setTimeout(() => say(button, "Copy"), 2000);
    button.focus();
  });
  return button;
}

/** The examples stand below one another; with scripts they are tabs. */
function makeTabs() {
  const panels = [...at("blocks").children];
  const tabs = panels.map((panel, i) => {
    const name = panel.querySelector("h3").textContent;
    panel.id = `panel-${i}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", `tab-${i}`);
    return make("button", { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": panel.id }, name);
  });
  const choose = (chosen) => tabs.forEach((tab, i) => {
    tab.setAttribute("aria-selected", String(i === chosen));
    tab.tabIndex = i === chosen ? 0 : -1;
    panels[i].hidden = i !== chosen;
  });
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(i));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = (to + tabs.length) % tabs.length;
      choose(next);
      tabs[next].focus();
    });
  });
  choose(0);
  const shown = () => panels.find((panel) => !panel.hidden).querySelector("pre").textContent;
  const list = make("div", { role: "tablist", "aria-label": "Examples", class: "tabs" }, ...tabs);
  at("blocks").before(make("div", { class: "tabs" }, list, copyButton("the example", shown)));
  const base = at("x-base");
  base.after(copyButton("the base URL", () => base.textContent, "copy small"));
}

const EVERY = 5 * 60 * 1000;
let deploymentsDue = 0;

/** Asks for the deployments if that is due, and if there is somebody to ask. */
async function refreshDeployments({ lists_deployments: canBeAsked, requires_key: needsKey, ready }) {
  if (!canBeAsked) {
    tellDeployments("Set management.subscription_id (or AZURE_SUBSCRIPTION_ID) to have them listed here. The identity needs the role Reader.");
    return;
  }
  if (needsKey) {
    tellDeployments(`Not asked for: the proxy wants an app's key (access.require_key), and this page has none. With one: curl -H 'api-key: KEY' ${location.origin}/management/deployments`);
    return;
  }
  if (Date.now() < deploymentsDue || !ready) return;
  deploymentsDue = Date.now() + EVERY;
  try {
    const answer = await fetch("management/deployments", { signal: AbortSignal.timeout(60_000) });
    const content = await answer.json();
    if (answer.ok) return showDeployments(content.value);
    const { message, hint } = content.error ?? {};
    tellDeployments([message ?? `The answer was ${answer.status}.`, hint].filter(Boolean).join(" "));
  } catch (error) {
    tellDeployments(`They could not be asked for: ${error.message}`);
  }
  deploymentsDue = Date.now() + EVERY / 10;
}

function tellDeployments(text) {
  at("deployments-table").hidden = true;
  say(at("deployments-note"), text);
}

function showDeployments(deployments) {
  const rows = deployments.map(({ name, properties, sku }) => [
    name, properties?.model?.name ?? "–", properties?.model?.version ?? "–", sku?.name ?? "–", count(sku?.capacity),
  ]);
  tellDeployments(rows.length ? "" : "The account has none.");
  at("deployments-table").hidden = !rows.length;
  fill(at("deployments"), rows, 4);
  // Examples are for copying: they name something that answers to chat.
  const answers = rows.filter(([, model]) => /^(gpt|o\d)/.test(model) && !/audio|realtime|image|transcribe|tts/.test(model));
  const names = answers.map(([name]) => name);
  if (!names.length || names.includes("gpt-4o-mini")) return;
  for (const place of document.querySelectorAll("[data-model]")) say(place, names[0]);
}
