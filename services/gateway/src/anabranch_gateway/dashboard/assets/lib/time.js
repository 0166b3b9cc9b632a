// @ts-check
/**
 * Formats times and durations for people. Pure: the current time is passed in. Times are seconds since the epoch, as in
 * views, or RFC 3339 text, as in events.
 */

/** @typedef {number | string} Time */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** @param {Time} time */
export const secondsOf = (time) => (typeof time === "string" ? Date.parse(time) / 1000 : time);

/**
 * A time relative to now, in one unit: "just now", "12 s ago", "in 3 min".
 * @param {Time} time
 * @param {number} now
 */
export function relative(time, now) {
  const at = secondsOf(time);
  const distance = Math.abs(now - at);
  if (distance < 2) return "just now";
  const text = coarse(distance);
  return at > now ? `in ${text}` : `${text} ago`;
}

/** @param {number} seconds */
function coarse(seconds) {
  if (seconds < MINUTE) return `${Math.floor(seconds)} s`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h`;
  return `${Math.floor(seconds / DAY)} d`;
}

/**
 * A duration with about three digits: "840 µs", "12 ms", "1.24 s", "2 min 04 s", "1 h 03 min".
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds <= 0) return "0 s";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min ${two(whole % MINUTE)} s`;
  if (whole < DAY) return `${Math.floor(whole / HOUR)} h ${two(Math.floor((whole % HOUR) / MINUTE))} min`;
  return `${Math.floor(whole / DAY)} d ${two(Math.floor((whole % DAY) / HOUR))} h`;
}

/**
 * Elapsed time in whole seconds, because fractions would flicker.
 * @param {number} seconds
 */
export const elapsed = (seconds) => (seconds < MINUTE ? `${Math.floor(Math.max(0, seconds))} s` : duration(Math.floor(seconds)));

/** @param {number} value @param {number} [width] */
const two = (value, width = 2) => String(value).padStart(width, "0");

/**
 * A time in the local zone, to the millisecond, with its offset: "2026-11-21 23:24:05.120 +01:00".
 * @param {Time} at
 */
export function absolute(at) {
  const date = new Date(secondsOf(at) * 1000);
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? "-" : "+"}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${clock(at)} ${zone}`;
}

/**
 * The time of day, local, to the millisecond.
 * @param {Time} at
 */
export function clock(at) {
  const date = new Date(secondsOf(at) * 1000);
  const seconds = `${two(date.getSeconds())}.${two(date.getMilliseconds(), 3)}`;
  return `${two(date.getHours())}:${two(date.getMinutes())}:${seconds}`;
}

/** For `<time datetime>`. @param {Time} at */
export const machine = (at) => new Date(secondsOf(at) * 1000).toISOString();

/**
 * Round marks for an axis from 0 to `span` seconds: about `count` of them, each a multiple of 1, 2 or 5 (or of a
 * whole part of a minute, an hour or a day).
 * @param {number} span
 * @param {number} count
 */
export function ticks(span, count) {
  if (!(span > 0)) return [0];
  const step = tickStep(span / Math.max(1, count));
  const marks = [];
  for (let nth = 0; nth * step <= span * 1.0001; nth += 1) marks.push(nth * step);
  return marks;
}

const LONG_STEPS = [15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, DAY];

/** @param {number} raw */
function tickStep(raw) {
  if (raw > 10) return LONG_STEPS.find((step) => step >= raw) ?? Math.ceil(raw / DAY) * DAY;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 5, 10].find((each) => each * unit >= raw * 0.9999) ?? 10;
  return factor * unit;
}
