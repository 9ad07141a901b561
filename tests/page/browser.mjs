// A browser, a page of it, and what tests do with them.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(join(process.env.LIME_PAGE_MODULES, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** Longer than anything that is waited for. */
export const PATIENCE = 90_000;
export const BASE = process.env.LIME_BASE_URL;

/** Starts the browser; a certificate of nobody is taken, as who looks at the page decides to. */
export async function start() {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  return browser;
}

/** A page in a tab of its own, whose faults and requests elsewhere are the test's. */
export async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const faults = [];
  page.on("pageerror", (error) => faults.push(`the page threw ${error}`));
  page.on("console", (message) => {
    // The browser itself tells of refusals, which some tests provoke.
    const refusal = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !refusal) faults.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(BASE)) faults.push(`the page asked ${request.url()}`);
  });
  const response = await page.goto(BASE);
  assert.equal(response.status(), 200);
  return { context, page, faults };
}

/** Waits until the ring serves. */
export async function ready(page) {
  await page.locator('#phase[data-phase="ready"]').waitFor();
}

/** Findings of axe that are serious or worse. */
export async function findings(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const bad = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return bad.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" | ")}`);
}

/** Keeps a picture, where pictures are wanted. */
export async function shot(page, name) {
  const folder = process.env.LIME_PAGE_SHOTS;
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`) });
}

/** The answer that was begun last, at its end. */
export async function lastAnswer(page) {
  const answer = page.locator(".turn.model").last();
  await page.locator('.turn.model[aria-busy="true"]').waitFor({ state: "detached" });
  return answer.locator(".body").innerText();
}

/** One part of a test, named as it runs. */
export async function part(name, run) {
  const begun = Date.now();
  try {
    await run();
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
  console.log(`ok: ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
}
