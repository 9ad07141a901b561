// A server with keys and TLS: the page asks for a key, says when it is the wrong one, and keeps it for the tab.

import assert from "node:assert/strict";

import { findings, lastAnswer, open, part, ready, shot, start } from "./browser.mjs";

const browser = await start();
// Its certificate is nobody's: whoever looks decides to go on.
const { context, page, faults } = await open(browser, { ignoreHTTPSErrors: true });
const dialog = page.locator("#key[open]");

async function give(key) {
  await dialog.waitFor();
  await page.locator("#key-field").fill(key);
  await page.keyboard.press("Enter");
}

await part("the page asks for a key", async () => {
  await dialog.waitFor();
  assert.deepEqual(await findings(page), []);
  await shot(page, "key");
});

await part("a wrong key is told", async () => {
  await give("wrong");
  await page.locator("#key-fault", { hasText: "not taken" }).waitFor();
});

await part("who gives none is asked again when it is needed", async () => {
  await page.keyboard.press("Escape");
  await page.locator("#notice", { hasText: "asks for a key" }).waitFor();
  await page.locator("#question").fill("ROMEO:");
  await page.keyboard.press("Enter");
  await dialog.waitFor();
  assert.match(await page.locator(".fault").innerText(), /API key/);
});

await part("with the key the question is answered", async () => {
  await give("secret-key");
  await ready(page);
  await page.locator(".turn.model .foot", { hasText: "tokens" }).waitFor();
  assert.ok((await lastAnswer(page)).length > 20);
  assert.equal(await page.locator(".fault").count(), 0);
});

await part("the key stays in its tab", async () => {
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  await page.reload();
  await ready(page);
  assert.equal(await dialog.count(), 0);
  const other = await context.newPage();
  await other.goto(page.url());
  await other.locator("#key[open]").waitFor();
});

await part("nothing else was asked, and nothing failed", async () => assert.deepEqual(faults, []));
await browser.close();
