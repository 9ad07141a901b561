// Numbers as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** `3.5 MiB`. */
export function bytes(count) {
  let [value, unit] = [count, 0];
  // Three digits are enough: 0.98 MiB rather than 1,004 KiB.
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${digits(value)} ${UNITS[unit]}`;
}

/** Three digits: `0.12`, `1.23`, `12.3`, `123`, `1,234`. */
export function digits(value) {
  if (value === 0) return "0";
  const places = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const rounded = value.toFixed(places);
  const short = rounded.includes(".") ? rounded.replace(/\.?0+$/, "") : rounded;
  return Number(short) >= 1000 ? Number(short).toLocaleString("en") : short;
}

/** `80 ms`, `1.2 s`, `12 s`, `3 min`. */
export function duration(millis) {
  if (millis < 1000) return `${Math.round(millis)} ms`;
  if (millis < 10_000) return `${(millis / 1000).toFixed(1)} s`;
  return millis < 120_000 ? `${Math.round(millis / 1000)} s` : `${Math.round(millis / 60_000)} min`;
}

/** `12:03:07`. */
export function clock(millis) {
  return new Date(millis).toLocaleTimeString("en-GB");
}

/** `1 block`, `2 blocks`. */
export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** Loaded bytes in whole per cent; nothing known yet is 0. */
export function percent(loaded, total) {
  return total > 0 ? Math.floor((Math.min(loaded, total) * 100) / total) : 0;
}

/** Blocks `start..end` as layers, as `lime plan` writes them: `3-7`; `m` for an MLP, `a` for an attention alone. */
export function layers([start, end]) {
  if (end <= start) return "none";
  const [first, last] = [Math.max(start - 1, 0), Math.max(end - 2, 0)];
  const [from, to] = [Math.floor(first / 2), Math.floor(last / 2)];
  const [mlpOnly, attentionOnly] = [first % 2 === 1, last % 2 === 0];
  if (from === to) return `${from}${mlpOnly ? "m" : attentionOnly ? "a" : ""}`;
  return `${from}${mlpOnly ? "m" : ""}-${to}${attentionOnly ? "a" : ""}`;
}
