// Markdown of answers as elements. A model's text is foreign: it becomes text nodes, in elements that are made here.

import { el } from "./dom.js";

/** Shows `text` in `container`. Blocks that are there already stay: of an answer that streams the last is made anew. */
export function show(container, text) {
  const blocks = split(text);
  blocks.forEach((block, index) => {
    const there = container.children[index];
    if (there && there.source === block.join("\n")) return;
    const node = element(block);
    node.source = block.join("\n");
    if (there) there.replaceWith(node);
    else container.append(node);
  });
  while (container.children.length > blocks.length) container.lastElementChild.remove();
}

/** Lines of each block: a fence to its end, a list with its gaps, otherwise what empty lines part. */
function split(text) {
  const blocks = [];
  let block = [];
  let fence = "";
  const end = () => {
    if (block.length > 0) blocks.push(block);
    block = [];
  };
  for (const line of text.split("\n")) {
    if (fence) {
      block.push(line);
      if (line.trim().startsWith(fence) && line.trim().replaceAll(fence[0], "") === "") {
        fence = "";
        end();
      }
      continue;
    }
    const opened = /^\s*(`{3,}|~{3,})/.exec(line);
    if (opened) {
      end();
      fence = opened[1];
      block.push(line);
    } else if (line.trim() === "") {
      end();
    } else {
      const kind = kindOf(line);
      const before = block.length > 0 ? kindOf(block[0]) : kind;
      // A paragraph goes on over lines; another kind of line begins a block of its own.
      if (kind === "heading" || before === "heading" || (kind !== before && kind !== "text")) end();
      block.push(line);
    }
  }
  end();
  return joinLists(blocks);
}

/** Items with empty lines between them are one list. */
function joinLists(blocks) {
  const joined = [];
  for (const block of blocks) {
    const last = joined.at(-1);
    const kind = kindOf(block[0]);
    const goesOn = last && isList(kindOf(last[0])) && (kind === kindOf(last[0]) || /^\s{2,}/.test(block[0]));
    if (goesOn) last.push(...block);
    else joined.push(block);
  }
  return joined;
}

function kindOf(line) {
  if (/^\s*(`{3,}|~{3,})/.test(line)) return "code";
  if (/^#{1,6}\s/.test(line)) return "heading";
  if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) return "rule";
  if (/^\s*[-*+]\s/.test(line)) return "bullets";
  if (/^\s*\d{1,9}[.)]\s/.test(line)) return "numbers";
  if (/^\s*>/.test(line)) return "quote";
  if (/^\s*\|.*\|\s*$/.test(line)) return "table";
  return "text";
}

function isList(kind) {
  return kind === "bullets" || kind === "numbers";
}

function element(block) {
  switch (kindOf(block[0])) {
    case "code":
      return code(block);
    case "heading": {
      const [, marks, title] = /^(#{1,6})\s+(.*?)\s*#*$/.exec(block[0]) ?? [null, "#", block[0]];
      // The page has its own headings of the first two ranks.
      return el(`h${Math.min(marks.length + 2, 6)}`, {}, ...inline(title));
    }
    case "rule":
      return el("hr");
    case "bullets":
    case "numbers":
      return list(block);
    case "quote": {
      const quote = el("blockquote");
      show(quote, block.map((line) => line.replace(/^\s*>\s?/, "")).join("\n"));
      return quote;
    }
    case "table":
      return block.length > 1 && /^[\s|:-]+$/.test(block[1]) ? table(block) : el("p", {}, ...inline(block.join("\n")));
    default:
      return el("p", {}, ...inline(block.join("\n")));
  }
}

function code(block) {
  const [, fence, language] = /^\s*(`{3,}|~{3,})\s*([^\s`]*)/.exec(block[0]);
  const closed = block.length > 1 && block.at(-1).trim().startsWith(fence);
  const text = block.slice(1, closed ? -1 : undefined).join("\n");
  const copy = el("button", { type: "button", class: "copy", "data-copy": "code" }, "Copy");
  const head = el("div", { class: "code-head" }, el("span", {}, language || "text"), copy);
  const pre = el("pre", { tabindex: "0", "aria-label": `Code, ${language || "text"}` }, el("code", {}, text));
  return el("div", { class: "code" }, head, pre);
}

function list(block) {
  const numbered = kindOf(block[0]) === "numbers";
  const indent = /^\s*/.exec(block[0])[0].length;
  const mark = /^\s*(?:[-*+]|\d{1,9}[.)])\s+/;
  const items = [];
  for (const line of block) {
    const deep = /^\s*/.exec(line)[0].length;
    if (mark.test(line) && deep <= indent + 1) items.push([line.replace(mark, "")]);
    else items.at(-1).push(line.slice(Math.min(deep, indent + 2)));
  }
  const first = numbered ? Number(/\d+/.exec(block[0])[0]) : 1;
  const node = el(numbered ? "ol" : "ul", { start: first === 1 ? null : first });
  for (const item of items) {
    const entry = el("li", {}, ...inline(item[0]));
    if (item.length > 1) {
      const rest = el("div");
      show(rest, item.slice(1).join("\n"));
      entry.append(...rest.children);
    }
    node.append(entry);
  }
  return node;
}

function table(block) {
  const cells = (line) =>
    line
      .trim()
      .replace(/^\||\|$/g, "")
      .split("|")
      .map((cell) => cell.trim());
  const row = (line, kind) => el("tr", {}, ...cells(line).map((cell) => el(kind, {}, ...inline(cell))));
  const body = block.slice(2).map((line) => row(line, "td"));
  const node = el("table", {}, el("thead", {}, row(block[0], "th")), el("tbody", {}, ...body));
  return el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, node);
}

const INLINE = new RegExp(
  [
    "(?<code>(?<ticks>`+)(?<coded>[^`](?:[\\s\\S]{0,1000}?[^`])?)\\k<ticks>(?!`))",
    "(?<strong>(?:\\*\\*(?=\\S)(?<bold>[\\s\\S]{0,1000}?\\S)\\*\\*))",
    "(?<em>(?:\\*(?=[^\\s*])(?<italic>[\\s\\S]{0,1000}?[^\\s*])\\*(?!\\*)))",
    "(?<under>(?<![\\p{L}\\p{N}])_(?=[^\\s_])(?<underlined>[\\s\\S]{0,1000}?[^\\s_])_(?![\\p{L}\\p{N}]))",
    "(?<del>~~(?=\\S)(?<struck>[\\s\\S]{0,1000}?\\S)~~)",
    "(?<link>\\[(?<label>[^\\]\\n]+)\\]\\((?<target>[^()\\s]+)\\))",
    "(?<line>\\n)",
  ].join("|"),
  "u",
);

/** Nodes for what stands in a line. Nesting ends where the text does: every match is shorter than what it is in. */
function inline(text) {
  const nodes = [];
  let rest = text;
  for (let found = INLINE.exec(rest); found; found = INLINE.exec(rest)) {
    if (found.index > 0) nodes.push(rest.slice(0, found.index));
    nodes.push(inlineNode(found.groups, found[0]));
    rest = rest.slice(found.index + found[0].length);
  }
  if (rest) nodes.push(rest);
  return nodes;
}

function inlineNode(found, whole) {
  if (found.code) return el("code", {}, found.coded.trim() || found.coded);
  if (found.strong) return el("strong", {}, ...inline(found.bold));
  if (found.em) return el("em", {}, ...inline(found.italic));
  if (found.under) return el("em", {}, ...inline(found.underlined));
  if (found.del) return el("s", {}, ...inline(found.struck));
  if (found.line) return el("br");
  // Whatever is no address of the web stays what the model wrote.
  if (!/^https?:/i.test(found.target)) return whole;
  const away = { href: found.target, rel: "noopener noreferrer nofollow", target: "_blank" };
  return el("a", away, ...inline(found.label));
}
