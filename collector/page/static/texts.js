// Messages as they are shown: always as text, never as markup. Terminal colours become classes, words are marked.

import { html } from "./vendor/preact-htm.js";

export const SEVERITIES = ["debug", "info", "warning", "error", "critical"];
// A letter besides the colour: nobody has to tell colours apart.
export const LETTERS = { debug: "D", info: "I", warning: "W", error: "E", critical: "C" };

const SIGNS = /\u001b\[([0-9;]*)m/g;
const OTHER_SIGNS = /\u001b(?:\[[0-9;?]*[A-HJKSTfhlnsu]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[()][A-Z0-9]|[=>78DEHM])|[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f]/g;

// [text, classes] of a message with ANSI colours; all other control signs are dropped.
export function coloured(text) {
  if (!text.includes("\u001b")) return [[text.replace(OTHER_SIGNS, ""), ""]];
  const found = [];
  let last = 0, state = {};
  const add = (piece) => {
    const clean = piece.replace(OTHER_SIGNS, "").replaceAll("\u001b", "");
    if (clean) found.push([clean, Object.values(state).join(" ")]);
  };
  for (const sign of text.matchAll(SIGNS)) {
    add(text.slice(last, sign.index));
    last = sign.index + sign[0].length;
    for (const code of (sign[1] || "0").split(";").map(Number)) {
      if (code === 0) state = {};
      else if (code === 1) state.bold = "ansi-bold";
      else if (code === 4) state.line = "ansi-underline";
      else if (code === 22) delete state.bold;
      else if (code === 24) delete state.line;
      else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) state.colour = `ansi-${code % 10}`;
      else if (code === 39) delete state.colour;
    }
  }
  add(text.slice(last));
  return found;
}

export function marked(text, marks) {
  if (!marks) return text;
  const found = [];
  let last = 0;
  for (const hit of text.matchAll(marks)) {
    if (!hit[0]) continue;
    found.push(text.slice(last, hit.index), html`<mark>${hit[0]}</mark>`);
    last = hit.index + hit[0].length;
  }
  return last ? [...found, text.slice(last)] : text;
}

export const Message = ({ text, marks }) =>
  coloured(text).map(([piece, classes]) => (classes ? html`<span class=${classes}>${marked(piece, marks)}</span>` : marked(piece, marks)));

const asJson = (text) => {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const TRACE = /\n\s+(?:at |File ")|\nTraceback|^Traceback|\n\s*\.\.\. \d+ more|^goroutine \d+/;

// A message at full length: JSON laid out, a stack trace folded behind its first line.
export function Whole({ text, marks }) {
  const json = asJson(text);
  if (json !== undefined && typeof json === "object") return html`<pre class="whole">${marked(JSON.stringify(json, null, 2), marks)}</pre>`;
  if (TRACE.test(text)) {
    const end = text.indexOf("\n");
    return html`<details class="trace" open><summary><${Message} text=${text.slice(0, end < 0 ? undefined : end)} marks=${marks} /></summary>
      <pre class="whole"><${Message} text=${end < 0 ? "" : text.slice(end + 1)} marks=${marks} /></pre></details>`;
  }
  return html`<pre class="whole"><${Message} text=${text} marks=${marks} /></pre>`;
}

// The value of a column of an event: of a field, else of the attribute of that name.
export function valueOf(event, name) {
  switch (name) {
    case "message": return event.message || event.title || "";
    case "service": return event.source.service;
    case "source": return event.source.name;
    case "endpoint": case "method": case "version": case "environment": return event.source[name] || (event.attributes[name] ?? "");
    default: {
      if (name.startsWith("attr.")) return plain(event.attributes[name.slice(5)]);
      const found = event[name] ?? event.context[name] ?? event.metrics[name] ?? event.error_details[name] ?? event.attributes[name];
      return plain(found);
    }
  }
}

const plain = (value) => (value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));

// Every field that an event says, as [name for a query, value].
export function fieldsOf(event) {
  const rows = [];
  const add = (name, value) => { if (value !== "" && value !== null && value !== undefined) rows.push([name, value]); };
  for (const name of ["timestamp", "severity", "event_type", "event_id"]) add(name, event[name]);
  for (const [name, value] of Object.entries(event.source)) add(name === "name" ? "source" : name, value);
  for (const part of ["context", "metrics", "error_details"]) {
    for (const [name, value] of Object.entries(event[part])) if (name !== "stack_trace" && name !== "tags") add(name, plain(value));
  }
  for (const tag of event.context.tags || []) add("tags", tag);
  for (const name of ["trace_id", "span_id", "agent", "path"]) add(name, event[name]);
  if (event.path) add("offset", event.offset);
  add("parse_error", event.parse_error);
  if (event.observed_timestamp !== event.timestamp) add("observed_timestamp", event.observed_timestamp);
  for (const [name, value] of Object.entries(event.attributes)) add(`attr.${name}`, plain(value));
  return rows;
}
