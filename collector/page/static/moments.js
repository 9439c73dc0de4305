// Times: ranges as a person writes them, and moments shown in the zone that was chosen.

export const RANGES = [
  ["-15m", "15 minutes"], ["-1h", "1 hour"], ["-6h", "6 hours"], ["-24h", "24 hours"], ["-7d", "7 days"], ["-30d", "30 days"],
];
const UNITS = { s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 };
const RELATIVE = /^-(\d+)([smhdw])$/;

export const isRelative = (text) => RELATIVE.test(text);

// Milliseconds of a bound: "-1h", ISO 8601, or empty, which is now. NaN for anything else.
export function moment(text, nowMs = Date.now()) {
  if (!text) return nowMs;
  const found = RELATIVE.exec(text);
  return found ? nowMs - found[1] * UNITS[found[2]] : Date.parse(text);
}

// The parameters of a window: both ends said, so that search, histogram and facets are of the same.
export function windowOf({ from, to }, nowMs = Date.now()) {
  return { start_time: new Date(moment(from, nowMs)).toISOString(), end_time: new Date(moment(to, nowMs)).toISOString() };
}

const two = (number) => String(number).padStart(2, "0");

function parts(iso, utc) {
  const date = new Date(iso);
  const get = (name) => date[`get${utc ? "UTC" : ""}${name}`]();
  return {
    day: `${get("FullYear")}-${two(get("Month") + 1)}-${two(get("Date"))}`,
    time: `${two(get("Hours"))}:${two(get("Minutes"))}:${two(get("Seconds"))}`,
    ms: String(get("Milliseconds")).padStart(3, "0"),
  };
}

export function shown(iso, utc) {
  const { day, time, ms } = parts(iso, utc);
  return `${day} ${time}.${ms}`;
}

export function short(iso, utc, spanMs) {
  const { day, time } = parts(iso, utc);
  return spanMs > 2 * UNITS.d ? day.slice(5) : spanMs > UNITS.h ? time.slice(0, 5) : time;
}

export const zoneName = (utc) => (utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");

// For <input type="datetime-local">, and back.
export const toInput = (ms, utc) => {
  const { day, time } = parts(new Date(ms).toISOString(), utc);
  return `${day}T${time}`;
};
export const fromInput = (text, utc) => new Date(utc ? `${text}Z` : text).toISOString();

export function span(range, utc) {
  if (!range.to && isRelative(range.from)) {
    const known = RANGES.find(([value]) => value === range.from);
    return `last ${known ? known[1] : range.from.slice(1)}`;
  }
  const end = range.to ? shown(range.to, utc).slice(0, 19) : "now";
  return `${shown(new Date(moment(range.from)).toISOString(), utc).slice(0, 19)} to ${end}`;
}

export function ago(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function size(bytes) {
  const names = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (bytes >= 1000 && at < names.length - 1) { bytes /= 1000; at += 1; }
  return `${at && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${names[at]}`;
}

export const number = (value) => (value ?? 0).toLocaleString("en-US");
