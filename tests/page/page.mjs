// The page as people use it: a streamed answer, a worker that is killed meanwhile, the keyboard alone, a phone.

import assert from "node:assert/strict";

import { findings, lastAnswer, open, part, ready, shot, start } from "./browser.mjs";

const workers = (process.env.LIME_WORKERS ?? "").split(",").filter(Boolean).map(Number);
const browser = await start();
const { page, faults } = await open(browser, { colorScheme: "light" });
const busy = page.locator('.turn.model[aria-busy="true"]');
let whole = "";

async function send(text) {
  await page.locator("#question").fill(text);
  await page.keyboard.press("Enter");
}

/** Waits until so much of an answer is there while more is to come. */
async function partOfAnswer(characters) {
  await page.waitForFunction((least) => {
    const answer = document.querySelector('.turn.model[aria-busy="true"] .body');
    return answer && answer.textContent.length >= least;
  }, characters);
}

await part("the page shows the ring", async () => {
  await ready(page);
  assert.equal(await page.locator("[data-device]").count(), 3);
  assert.equal(await page.locator(".segment").count(), 2);
  await page.locator('[data-device="d1"][data-state="serving"]').waitFor();
  assert.match(await page.locator(".speed").innerText(), /Predicted\s+[\d.]+/);
  await shot(page, "welcome");
});

await part("the keyboard alone sets the temperature", async () => {
  await page.locator("#question").focus();
  await tabTo("open-settings", "Shift+Tab");
  await page.keyboard.press("Enter");
  assert.deepEqual(await findings(page), []);
  await shot(page, "settings");
  await tabTo("temperature", "Tab");
  await page.keyboard.type("0");
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "open-settings", "the button that opened it has the focus again");
  await tabTo("question", "Tab");
});

await part("an answer streams", async () => {
  await page.keyboard.type("ROMEO:");
  await page.keyboard.press("Enter");
  await partOfAnswer(10);
  await shot(page, "streaming");
  whole = await lastAnswer(page);
  assert.ok(whole.length > 200, whole);
  assert.match(await page.locator(".foot").last().innerText(), /^\d+ tokens · [\d.]+ tokens\/s/);
  assert.match(await page.locator("[data-measured]").innerText(), /[\d.]+/);
  assert.match(await page.locator("#spoken").innerText(), /\w/);
  assert.equal(await focused(), "question");
  assert.deepEqual(await findings(page), []);
});

await part("Escape stops an answer", async () => {
  await page.locator("#fresh").click();
  await send("ROMEO:");
  await partOfAnswer(10);
  await page.keyboard.press("Escape");
  await busy.waitFor({ state: "detached" });
  assert.match(await page.locator(".foot").last().innerText(), /^Stopped/);
});

await part("a worker is killed while an answer streams, and the sentence goes on", async () => {
  assert.equal(workers.length, 3, "LIME_WORKERS names three processes");
  await page.locator("#fresh").click();
  await send("ROMEO:");
  await partOfAnswer(40);
  process.kill(workers[1], "SIGKILL");
  await page.locator(".happened .lost").first().waitFor();
  await shot(page, "lost");
  await page.locator(".happened .recovered").first().waitFor();
  assert.equal(await lastAnswer(page), whole, "the answer is the one that nobody disturbed");
  assert.equal(await page.locator(".fault").count(), 0);
  await ready(page);
  await page.locator('[data-device="d1"][data-state="back"], [data-device="d1"][data-state="serving"]').waitFor();
  await shot(page, "back");
});

await part("a model's words become no markup", async () => {
  const hostile = [
    "# Title\n\nSome **bold**, *italic* and `code`.",
    "- one\n- two\n  - three\n\n1. first\n2. second",
    "```js\nlet x = '<img src=x onerror=alert(1)>';\n```",
    "<script>alert(1)</script> <img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) [web](https://example.org/a) [data](data:text/html,x)",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "> quoted\n> twice",
    "**unclosed *and `so on",
  ].join("\n\n");
  const found = await page.evaluate(async (text) => {
    const { show } = await import("/page/markdown.js");
    const place = document.createElement("div");
    // As it streams: every beginning is shown.
    for (let end = 0; end <= text.length; end += 1) show(place, text.slice(0, end));
    const names = [...place.querySelectorAll("*")].map((node) => node.localName);
    const links = [...place.querySelectorAll("a")].map((node) => node.href);
    const count = (name) => names.filter((found) => found === name).length;
    return {
      names: [...new Set(names)].sort(),
      links,
      text: place.textContent,
      items: count("li"),
      cells: count("td"),
    };
  }, hostile);
  const made = "a blockquote br button code del div em h3 li ol p pre span strong table tbody td th thead tr ul".split(
    " ",
  );
  assert.deepEqual(
    found.names.filter((name) => !made.includes(name)),
    [],
  );
  for (const name of ["h3", "strong", "em", "code", "pre", "ul", "ol", "table", "blockquote"])
    assert.ok(found.names.includes(name), name);
  assert.deepEqual(found.links, ["https://example.org/a"]);
  assert.equal(found.items, 5);
  assert.equal(found.cells, 2);
  assert.ok(found.text.includes("<script>alert(1)</script>") && found.text.includes("javascript:alert(1)"));
});

await part("the dark page has contrast too", async () => {
  await page.emulateMedia({ colorScheme: "dark" });
  assert.deepEqual(await findings(page), []);
  await shot(page, "dark");
});

await part("it fits a phone of 360 points", async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  for (const [view, scheme] of [
    ["chat", "light"],
    ["ring", "dark"],
  ]) {
    await page.emulateMedia({ colorScheme: scheme });
    if (view === "ring") await page.locator("#view").click();
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `${view} is ${width} points wide`);
    assert.equal(await page.locator(`#${view}`).isVisible(), true);
    assert.deepEqual(await findings(page), []);
    await shot(page, `phone-${view}`);
  }
  await page.locator("#view").click();
  await page.locator("#open-settings").click();
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
  await shot(page, "phone-settings");
  await page.keyboard.press("Escape");
});

await part("nothing else was asked, and nothing failed", async () => assert.deepEqual(faults, []));
await browser.close();

/** Presses `key` until the element with this id has the focus. */
async function tabTo(id, key) {
  for (let turns = 0; (await focused()) !== id; turns += 1) {
    assert.ok(turns < 20, `${key} never comes to ${id}`);
    await page.keyboard.press(key);
  }
}

function focused() {
  return page.evaluate(() => document.activeElement?.id ?? "");
}
