// @ts-check
/** Formats numbers, sizes and ids for people. Pure. */

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** @param {number | null | undefined} value */
export const integer = (value) => (value === null || value === undefined ? "–" : GROUPED.format(value));

/**
 * A count with its noun: "1 task", "1,200 tasks".
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export const counted = (count, one, many = `${one}s`) => `${integer(count)} ${count === 1 ? one : many}`;

const MONEY = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", maximumFractionDigits: 9 });

/**
 * What work has used: `$0.042 and 1,200 tokens`.
 * @param {{ usd: number, tokens: number }} costs
 */
export const used = (costs) => [costs.usd > 0 && MONEY.format(costs.usd), costs.tokens > 0 && counted(costs.tokens, "token")].filter(Boolean).join(" and ") || "nothing";

/**
 * A number in four characters or so, for tiles: 950, 1.2k, 38k, 1.2M.
 * @param {number} value
 */
export function compact(value) {
  if (value < 1000) return String(value);
  for (const [unit, letter] of /** @type {[number, string][]} */ ([[1e6, "M"], [1e3, "k"]])) {
    if (value >= unit) {
      const scaled = value / unit;
      return `${scaled < 10 && value % unit ? (Math.floor(scaled * 10) / 10).toString() : Math.floor(scaled)}${letter}`;
    }
  }
  return String(value);
}

/** @param {number | null | undefined} value */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1000) return `${value} B`;
  if (value < 999_500) return `${digits(value / 1000)} kB`;
  return `${digits(value / 1e6)} MB`;
}

/** @param {number} value */
const digits = (value) => (value < 10 ? value.toFixed(1) : Math.round(value).toString());

/**
 * A share as a percentage, which is 0% or 100% only if that is exact.
 * @param {number} part
 * @param {number} whole
 */
export function percent(part, whole) {
  if (whole <= 0) return "–";
  const exact = (100 * part) / whole;
  if (part > 0 && exact < 1) return "<1%";
  if (part < whole && exact > 99) return "99%";
  return `${Math.round(exact)}%`;
}

/**
 * The beginning and end of a long id.
 * @param {string} id
 */
export const shortId = (id) => (id.length <= 18 ? id : `${id.slice(0, 8)}…${id.slice(-6)}`);

/**
 * A text on one line, cut to `limit` characters.
 * @param {string} text
 * @param {number} limit
 */
export function oneLine(text, limit) {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length <= limit ? line : `${line.slice(0, limit - 1)}…`;
}

/**
 * Length of the prefix that all names share, up to a separator; 0 if hiding it would gain little.
 * @param {string[]} names
 */
export function sharedPrefix(names) {
  if (names.length < 2) return 0;
  let length = names[0].length;
  for (const name of names) {
    let same = 0;
    while (same < length && name[same] === names[0][same]) same += 1;
    length = same;
  }
  const mark = Math.max(...[".", "_", "-", "/", " ", ":"].map((each) => names[0].lastIndexOf(each, length - 1)));
  return mark >= 5 ? mark + 1 : 0;
}

/** The name of member `index` of a task, as the engine names it. @param {string} task @param {number | null} index */
export const memberName = (task, index) => (index === null ? task : `${task}_${index + 1}`);
